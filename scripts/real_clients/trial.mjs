// What the programs that try a JavaScript client share.

/** The gateway, without a path. */
export const URL = process.env.URL
export const HELLO = 'Hello, Wörld!'
export const WIEN = { city: 'Wien' }

/** Does it, and prints whether that gave what is wanted. */
export async function trial(what, act, wanted) {
  let got
  try {
    got = await act()
  } catch (error) {
    got = `${error.name}: ${error.message}`
  }
  const [left, right] = [JSON.stringify(got), JSON.stringify(wanted)]
  console.log(left === right ? `ok\t${what}` : `failed\t${what}: ${String(left).replace(/\s+/g, ' ').slice(0, 200)}`)
}

/** The HTTP status of the error that this throws. */
export async function statusOf(act) {
  try {
    await act()
  } catch (error) {
    return error.statusCode ?? error.status ?? error.status_code ?? error.lastError?.statusCode ?? error.message
  }
}

export async function joined(stream) {
  let text = ''
  for await (const piece of stream) text += piece
  return text
}
