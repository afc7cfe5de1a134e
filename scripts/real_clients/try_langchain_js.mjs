import { tool } from '@langchain/core/tools'
import { ChatOllama, OllamaEmbeddings } from '@langchain/ollama'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import { z } from 'zod'
import { HELLO, URL, WIEN, statusOf, trial } from './trial.mjs'

const at = { apiKey: 'none', maxRetries: 0, configuration: { baseURL: `${URL}/v1` } }
const now = tool(async ({ city }) => `noon in ${city}`, {
  name: 'now',
  description: 'the time',
  schema: z.object({ city: z.string() }),
})
const models = {
  '@langchain/openai': [(model) => new ChatOpenAI({ model, ...at }), new OpenAIEmbeddings({ model: 'all-minilm', ...at })],
  '@langchain/ollama': [
    (model) => new ChatOllama({ model, baseUrl: URL, maxRetries: 0 }),
    new OllamaEmbeddings({ model: 'all-minilm', baseUrl: URL }),
  ],
}

for (const [name, [make, embeddings]] of Object.entries(models)) {
  const model = make('tiny')
  await trial(`${name}: chat`, async () => (await model.invoke('langchain-js')).text, HELLO)
  const stream = async () => {
    let text = ''
    for await (const piece of await model.stream('langchain-js')) text += piece.text
    return text
  }
  await trial(`${name}: stream of a hit`, stream, HELLO)
  const calls = async () => (await model.bindTools([now]).invoke('What time is it?')).tool_calls[0].args
  await trial(`${name}: tool`, calls, WIEN)
  const dimensions = async () => (await embeddings.embedDocuments(['one', 'two'])).map((one) => one.length)
  await trial(`${name}: embeddings`, dimensions, [384, 384])
  await trial(`${name}: unknown model`, () => statusOf(() => make('huge').invoke('x')), 404)
}
