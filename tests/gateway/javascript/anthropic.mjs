import Anthropic from '@anthropic-ai/sdk'

const asked = { model: 'tiny', max_tokens: 100, messages: [{ role: 'user', content: 'Say hello.' }] }
const tools = [{ name: 'now', input_schema: { type: 'object', properties: { city: { type: 'string' } } } }]

const textOf = (message) => message.content.filter((one) => one.type === 'text').map((one) => one.text).join('')
const callsOf = (message) =>
  message.content
    .filter((one) => one.type === 'tool_use')
    .map((one) => ({ name: one.name, arguments: one.input }))

export function connect(url, key, fetch) {
  const anthropic = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, fetch })
  return {
    async models() {
      const names = []
      for await (const model of anthropic.models.list()) names.push(model.id)
      return { names }
    },

    async chat() {
      const message = await anthropic.messages.create(asked)
      return { text: textOf(message), reason: message.stop_reason, tokens: message.usage.output_tokens }
    },

    async stream() {
      const pieces = []
      const stream = anthropic.messages.stream(asked).on('text', (piece) => pieces.push(piece))
      const message = await stream.finalMessage()
      return { text: textOf(message), reason: message.stop_reason, tokens: message.usage.output_tokens, pieces }
    },

    async tool() {
      const message = await anthropic.messages.create({ ...asked, tools })
      return { calls: callsOf(message), reason: message.stop_reason }
    },

    async toolStream() {
      const message = await anthropic.messages.stream({ ...asked, tools }).finalMessage()
      return { calls: callsOf(message), reason: message.stop_reason }
    },

    unknown() {
      return anthropic.messages.create({ ...asked, model: 'huge' })
    },

    async leave() {
      for await (const event of await anthropic.messages.create({ ...asked, stream: true })) {
        if (event.type === 'content_block_delta') return { text: event.delta.text } // leaving the loop aborts
      }
    },
  }
}
