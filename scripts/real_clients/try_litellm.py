import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is downloaded

import litellm
from trial import HELLO, URL, error_of, trial

litellm.telemetry = False
litellm.suppress_debug_info = True
parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
function = {"name": "now", "description": "the time", "parameters": parameters}
tools = [{"type": "function", "function": function}]


def ask(model: str, question: str = "litellm", **fields: object) -> object:
    base = f"{URL}/v1" if model.startswith("openai/") else URL
    messages = [{"role": "user", "content": question}]
    return litellm.completion(model, messages, api_base=base, api_key="none", num_retries=0, **fields)


def text(model: str) -> str:
    return ask(model).choices[0].message.content


def streamed(model: str) -> str:
    return "".join(piece.choices[0].delta.content or "" for piece in ask(model, stream=True))


def call(model: str) -> str:
    message = ask(model, "What time is it?", tools=tools).choices[0].message
    return message.tool_calls[0].function.arguments.replace(" ", "")


for provider in ("openai", "ollama_chat", "anthropic"):
    model = f"{provider}/tiny"
    trial(f"{provider}: chat", lambda model=model: text(model), HELLO)
    trial(f"{provider}: stream of a hit", lambda model=model: streamed(model), HELLO)
    trial(f"{provider}: tool", lambda model=model: call(model), '{"city":"Wien"}')
    unknown = f"{provider}/huge"
    trial(
        f"{provider}: unknown model", lambda unknown=unknown: error_of(lambda: ask(unknown)), "NotFoundError"
    )


def embedded(model: str, base: str) -> list[int]:
    vectors = litellm.embedding(model, ["one", "two"], api_base=base, api_key="none").data
    return [len(one["embedding"]) for one in vectors]


trial("openai: embeddings", lambda: embedded("openai/all-minilm", f"{URL}/v1"), [384, 384])
trial("ollama: embeddings", lambda: embedded("ollama/all-minilm", URL), [384, 384])
sys.stdout.flush()
os._exit(0)  # its background threads keep it from ending
