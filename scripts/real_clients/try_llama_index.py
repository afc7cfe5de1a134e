from llama_index.core.llms import ChatMessage, CustomLLM
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from trial import HELLO, URL, error_of, trial

at = {"api_base": f"{URL}/v1", "api_key": "none", "max_retries": 0, "is_function_calling_model": True}
asked = [ChatMessage("llama-index")]


def now(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


def chat(model: CustomLLM) -> str:
    return model.chat(asked).message.content


def streamed(model: CustomLLM) -> str:
    return "".join(piece.delta or "" for piece in model.stream_chat(asked))


def call(model: CustomLLM) -> str:
    return model.predict_and_call([FunctionTool.from_defaults(now)], user_msg="What time is it?").response


models = {
    "openai-like": lambda name: OpenAILike(model=name, is_chat_model=True, **at),
    "ollama": lambda name: Ollama(model=name, base_url=URL),
}
for name, make in models.items():
    model, unknown = make("tiny"), make("huge")
    trial(f"{name}: chat", lambda model=model: chat(model), HELLO)
    trial(f"{name}: stream of a hit", lambda model=model: streamed(model), HELLO)
    trial(f"{name}: tool", lambda model=model: call(model), "noon in Wien")
    error = "ResponseError" if name == "ollama" else "NotFoundError"
    trial(f"{name}: unknown model", lambda unknown=unknown: error_of(lambda: chat(unknown)), error)
completing = OpenAILike(model="tiny", is_chat_model=False, **at)
trial("openai-like: completion", lambda: completing.complete("llama-index").text, HELLO)
