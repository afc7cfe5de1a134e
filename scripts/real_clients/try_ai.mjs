import { createOpenAI } from '@ai-sdk/openai'
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from 'ai'
import { createOllama } from 'ollama-ai-provider-v2'
import { z } from 'zod'
import { HELLO, URL, joined, statusOf, trial } from './trial.mjs'

const openai = createOpenAI({ baseURL: `${URL}/v1`, apiKey: 'none' })
const ollama = createOllama({ baseURL: `${URL}/api` })
const now = tool({
  description: 'the time',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `noon in ${city}`,
})
const stateless = { openai: { store: false } }
const models = {
  '@ai-sdk/openai (chat)': [openai.chat('tiny'), openai.chat('huge')],
  '@ai-sdk/openai (responses)': [openai.responses('tiny'), openai.responses('huge')],
  'ollama-ai-provider-v2': [ollama('tiny'), ollama('huge')],
}

for (const [name, [model, unknown]] of Object.entries(models)) {
  const asked = { model, maxRetries: 0, providerOptions: stateless }
  await trial(`${name}: text`, async () => (await generateText({ ...asked, prompt: 'ai' })).text, HELLO)
  await trial(`${name}: stream of a hit`, () => joined(streamText({ ...asked, prompt: 'ai' }).textStream), HELLO)
  const withTool = { ...asked, prompt: 'What time is it?', tools: { now }, stopWhen: stepCountIs(2) }
  await trial(`${name}: tool`, async () => (await generateText(withTool)).text, 'The tool said: noon in Wien')
  const schema = z.object({ age: z.number() })
  await trial(
    `${name}: JSON schema`,
    async () => (await generateObject({ ...asked, schema, prompt: 'How old?' })).object,
    { age: 7 },
  )
  const refused = () => generateText({ ...asked, model: unknown, prompt: 'ai' })
  await trial(`${name}: unknown model`, () => statusOf(refused), 404)
}
const dimensions = async (model) => (await embedMany({ model, values: ['one', 'two'] })).embeddings.map((one) => one.length)
await trial('@ai-sdk/openai: embeddings', () => dimensions(openai.embedding('all-minilm')), [384, 384])
await trial('ollama-ai-provider-v2: embeddings', () => dimensions(ollama.embedding('all-minilm')), [384, 384])
