from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel
from trial import HELLO, URL, error_of, trial

model = ChatOllama(model="tiny", base_url=URL, num_ctx=2048, validate_model_on_init=True)


@tool
def now(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


class Age(BaseModel):
    age: int


def use_tool() -> str:
    asked = HumanMessage("What time is it?")
    called = model.bind_tools([now]).invoke([asked])
    call = called.tool_calls[0]
    answer = ToolMessage(now.invoke(call["args"]), tool_call_id=call["id"])
    return model.bind_tools([now]).invoke([asked, called, answer]).text


trial("chat", lambda: model.invoke("langchain-ollama").text, HELLO)
trial("stream of a hit", lambda: "".join(piece.text for piece in model.stream("langchain-ollama")), HELLO)
trial("generated text", lambda: OllamaLLM(model="tiny", base_url=URL).invoke("langchain-ollama"), HELLO)
trial("tool", use_tool, "The tool said: noon in Wien")
trial("JSON schema", lambda: model.with_structured_output(Age).invoke("How old?").age, 7)
trial("think", lambda: ChatOllama(model="tiny", base_url=URL, reasoning=True).invoke("Think.").text, HELLO)
embeddings = OllamaEmbeddings(model="all-minilm", base_url=URL)
trial("embeddings", lambda: [len(one) for one in embeddings.embed_documents(["one", "two"])], [384, 384])
unknown = ChatOllama(model="huge", base_url=URL)
trial("unknown model", lambda: error_of(lambda: unknown.invoke("x")), "ResponseError")
