from collections.abc import Iterator

from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from trial import HELLO, URL, error_of, trial

at = {"base_url": f"{URL}/v1", "api_key": "none", "max_retries": 0}
model = ChatOpenAI(model="tiny", **at)


@tool
def now(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


class Age(BaseModel):
    age: int


def tokens_of(stream: Iterator[AIMessageChunk]) -> int:
    return sum(piece.usage_metadata["output_tokens"] for piece in stream if piece.usage_metadata)


def use_tool(model: ChatOpenAI) -> str:
    asked = HumanMessage("What time is it?")
    called = model.bind_tools([now]).invoke([asked])
    call = called.tool_calls[0]
    answer = ToolMessage(now.invoke(call["args"]), tool_call_id=call["id"])
    return model.bind_tools([now]).invoke([asked, called, answer]).text


trial("chat", lambda: model.invoke("langchain-openai").text, HELLO)
trial("stream of a hit", lambda: "".join(piece.text for piece in model.stream("langchain-openai")), HELLO)
trial("usage of a stream", lambda: tokens_of(model.stream("usage", stream_usage=True)), 4)
trial("tool", lambda: use_tool(model), "The tool said: noon in Wien")
in_schema = model.with_structured_output(Age, method="json_schema")
trial("JSON schema", lambda: in_schema.invoke("How old?").age, 7)
responses = ChatOpenAI(model="tiny", use_responses_api=True, **at)
trial("Responses", lambda: responses.invoke("langchain-openai").text, HELLO)
trial("Responses with a tool", lambda: use_tool(responses), "The tool said: noon in Wien")
embeddings = OpenAIEmbeddings(model="all-minilm", check_embedding_ctx_length=False, **at)
trial("embeddings", lambda: [len(one) for one in embeddings.embed_documents(["one", "two"])], [384, 384])
unknown = ChatOpenAI(model="huge", **at)
trial("unknown model", lambda: error_of(lambda: unknown.invoke("x")), "OpenAIModelNotFoundError")
