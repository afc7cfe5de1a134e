import OpenAI from 'openai'

const asked = { model: 'tiny', messages: [{ role: 'user', content: 'Say hello.' }] }
const parameters = { type: 'object', properties: { city: { type: 'string' } } }
const tools = [{ type: 'function', function: { name: 'now', parameters } }]

const callsOf = (message) =>
  message.tool_calls.map((call) => ({ name: call.function.name, arguments: JSON.parse(call.function.arguments) }))

export function connect(url, key, fetch) {
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, fetch })
  return {
    async models() {
      const names = []
      for await (const model of openai.models.list()) names.push(model.id)
      return { names }
    },

    async chat() {
      const { choices, usage } = await openai.chat.completions.create(asked)
      return { text: choices[0].message.content, reason: choices[0].finish_reason, tokens: usage.completion_tokens }
    },

    async stream() {
      const pieces = []
      const stream = openai.chat.completions.stream({ ...asked, stream_options: { include_usage: true } })
      stream.on('content', (piece) => pieces.push(piece))
      const { choices, usage } = await stream.finalChatCompletion()
      const text = choices[0].message.content
      return { text, reason: choices[0].finish_reason, tokens: usage.completion_tokens, pieces }
    },

    async response() {
      const { output_text, status, usage } = await openai.responses.create({ model: 'tiny', input: 'Say hello.' })
      return { text: output_text, status, tokens: usage.output_tokens }
    },

    async tool() {
      const { choices } = await openai.chat.completions.create({ ...asked, tools })
      return { calls: callsOf(choices[0].message), reason: choices[0].finish_reason }
    },

    async toolStream() {
      const stream = openai.chat.completions.stream({ ...asked, tools })
      const { choices } = await stream.finalChatCompletion()
      return { calls: callsOf(choices[0].message), reason: choices[0].finish_reason }
    },

    async embed() {
      const { data } = await openai.embeddings.create({ model: 'all-minilm', input: ['one', 'two'] })
      return { dimensions: data.map((one) => one.embedding.length) }
    },

    unknown() {
      return openai.chat.completions.create({ ...asked, model: 'huge' })
    },

    async leave() {
      for await (const chunk of await openai.chat.completions.create({ ...asked, stream: true })) {
        const text = chunk.choices[0].delta.content
        if (text) return { text } // leaving the loop aborts the request
      }
    },
  }
}
