from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from trial import HELLO, URL, error_of, trial

at = {"api_base": f"{URL}/v1", "api_key": "none", "max_retries": 0, "is_function_calling_model": True}
model = OpenAILike(model="tiny", is_chat_model=True, **at)
asked = [ChatMessage("llama-index")]


def now(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


def call() -> object:
    return model.predict_and_call([FunctionTool.from_defaults(now)], user_msg="What time is it?").response


trial("chat", lambda: model.chat(asked).message.content, HELLO)
trial("stream of a hit", lambda: "".join(piece.delta or "" for piece in model.stream_chat(asked)), HELLO)
completing = OpenAILike(model="tiny", is_chat_model=False, **at)
trial("completion", lambda: completing.complete("llama-index").text, HELLO)
trial("tool", call, "noon in Wien")
unknown = OpenAILike(model="huge", is_chat_model=True, **at)
trial("unknown model", lambda: error_of(lambda: unknown.chat(asked)), "NotFoundError")
