import { Ollama } from 'ollama'

const asked = { model: 'tiny', messages: [{ role: 'user', content: 'Say hello.' }] }
const parameters = { type: 'object', required: [], properties: { city: { type: 'string', description: '' } } }
const tools = [{ type: 'function', function: { name: 'now', description: 'the time', parameters } }]

const callsOf = (message) => message.tool_calls.map(({ function: { name, arguments: given } }) => ({ name, arguments: given }))

export function connect(url, key, fetch) {
  const ollama = new Ollama({ host: url, headers: { authorization: `Bearer ${key}` }, fetch })
  return {
    async models() {
      const { models } = await ollama.list()
      return { names: models.map((model) => model.name) }
    },

    async chat() {
      const { message, done_reason, eval_count } = await ollama.chat(asked)
      return { text: message.content, reason: done_reason, tokens: eval_count }
    },

    async stream() {
      const pieces = []
      let last
      for await (last of await ollama.chat({ ...asked, stream: true })) {
        if (last.message.content) pieces.push(last.message.content)
      }
      return { text: pieces.join(''), reason: last.done_reason, tokens: last.eval_count, pieces }
    },

    async tool() {
      const { message, done_reason } = await ollama.chat({ ...asked, tools })
      return { calls: callsOf(message), reason: done_reason }
    },

    async toolStream() {
      const calls = []
      let last
      for await (last of await ollama.chat({ ...asked, tools, stream: true })) {
        if (last.message.tool_calls) calls.push(...callsOf(last.message))
      }
      return { calls, reason: last.done_reason }
    },

    async embed() {
      const { embeddings } = await ollama.embed({ model: 'all-minilm', input: ['one', 'two'] })
      return { dimensions: embeddings.map((one) => one.length) }
    },

    unknown() {
      return ollama.chat({ ...asked, model: 'huge' })
    },

    async leave() {
      const stream = await ollama.chat({ ...asked, stream: true })
      for await (const part of stream) {
        if (!part.message.content) continue
        stream.abort()
        return { text: part.message.content }
      }
    },
  }
}
