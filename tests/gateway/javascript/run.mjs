// Does what it is told with one of the SDKs, and prints what that SDK saw: `KEY=… node run.mjs SDK URL ACTION…`
//
// Each SDK has a file with the same actions, whose results have the same shape, so that the tests are the same.

const [sdk, url, ...actions] = process.argv.slice(2)

/** What the gateway's header says of the last answer. */
let cache = null
const fetchAndNote = async (...request) => {
  const answer = await fetch(...request)
  cache = answer.headers.get('x-llmhost-cache')
  return answer
}

const { connect } = await import(`./${sdk}.mjs`)
const client = connect(url, process.env.KEY, fetchAndNote)

async function result(action) {
  try {
    return await client[action]()
  } catch (error) {
    return { error: error.constructor.name, status: error.status ?? error.status_code, message: error.message }
  }
}

const seen = []
for (const action of actions) {
  cache = null
  seen.push({ ...(await result(action)), cache })
}
console.log(JSON.stringify(seen))
