"""The worker process of the built-in engine: real llama.cpp, real model."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import httpx
import psutil
import pytest
from doubles.engine_limits import LIMITS
from doubles.free_port import free_port
from doubles.waiting import LONGEST

from llmhost.engines.engine import Endpoint
from llmhost.engines.llama_cpp import ADDRESS_FILE, SPEC_FILE, WorkerSpec, read_spec, write_spec
from llmhost.engines.model_file import find_model
from llmhost.engines.openai import OpenAIEngine
from llmhost.errors import StateError

#: seconds; a stopped process is gone in some 20 ms
SOON = 5

SPEC = WorkerSpec("/models/a.gguf", "a", context=512, parallel=1, threads=1, port=0, token="secret-token")


def test_a_spec_is_read_as_it_was_written(tmp_path):
    write_spec(tmp_path, SPEC)
    assert read_spec(tmp_path) == SPEC


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_spec_is_for_its_owner_alone(tmp_path, no_umask):
    write_spec(tmp_path, SPEC)
    assert stat.S_IMODE((tmp_path / SPEC_FILE).stat().st_mode) == 0o600


def test_a_spec_does_not_show_its_token():
    assert "secret-token" not in repr(SPEC)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_path": "a"}', '{"unknown": 1}'])
def test_a_damaged_spec_is_a_state_error(tmp_path, content):
    (tmp_path / SPEC_FILE).write_text(content)
    with pytest.raises(StateError, match=r"spec\.json"):
        read_spec(tmp_path)


def test_a_spec_without_a_token_is_not_served(tmp_path):
    write_spec(tmp_path, WorkerSpec("/models/a.gguf", "a", 512, 1, 1, 0, token=""))
    with pytest.raises(StateError, match="no token"):
        read_spec(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/props", "/slots", "/metrics"])
def test_nothing_is_told_without_the_token(llama_worker, path):
    with httpx.Client(base_url=llama_worker.url, timeout=LONGEST) as client:
        assert client.get(path).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/slots", "/metrics", "/"])
def test_what_llmhost_does_not_use_is_turned_off(llama_worker, path):
    headers = {"Authorization": f"Bearer {llama_worker.spec.token}"}
    with httpx.Client(base_url=llama_worker.url, headers=headers, timeout=LONGEST) as client:
        assert client.get(path).status_code in {404, 501}


@pytest.mark.slow
def test_each_request_has_the_whole_context(llama_worker):
    headers = {"Authorization": f"Bearer {llama_worker.spec.token}"}
    with httpx.Client(base_url=llama_worker.url, headers=headers, timeout=LONGEST) as client:
        (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["meta"]["n_ctx"]) == (llama_worker.spec.alias, 2048)


@pytest.mark.slow
async def test_neither_prompts_nor_answers_are_in_the_log(start_llama_worker, question, ask):
    worker = start_llama_worker(context=512)
    worker.wait_until_it_listens()
    engine = OpenAIEngine(Endpoint(worker.url, worker.spec.token), LIMITS)
    text, _ = await ask(engine, question("Repeat: xylophone", model=worker.spec.alias, max_tokens=20))
    headers = {"Authorization": f"Bearer {worker.spec.token}"}
    async with httpx.AsyncClient(base_url=worker.url, headers=headers, timeout=LONGEST) as raw:
        await raw.post("/v1/chat/completions", content='{"messages": xylophone')
        too_long = [{"role": "user", "content": "xylophone " * 999}]
        await raw.post("/v1/chat/completions", json={"messages": too_long})
    await engine.aclose()
    assert text
    assert text not in worker.log
    assert "xylophone" not in worker.log


@pytest.mark.slow
def test_the_log_says_what_a_worker_loads_serves_and_that_it_was_ended(start_llama_worker):
    worker = start_llama_worker()
    worker.wait_until_it_listens()
    worker.process.terminate()
    assert worker.process.wait(SOON) == 0
    loads, serves, ends = worker.log.splitlines()
    assert worker.spec.model_path in loads
    assert serves.endswith(f"serves {worker.spec.alias} at {worker.url}")
    assert ends.endswith("ends: it was told to")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_stops_at_once_in_the_middle_of_a_prompt(start_llama_worker, question, number):
    worker = start_llama_worker(context=4096)
    worker.wait_until_it_listens()
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {worker.spec.token}"}, timeout=LONGEST
    ) as client:
        messages = [{"role": "user", "content": "word " * 3500}]
        body = {"messages": messages, "stream": True, "max_tokens": 1}
        request = client.build_request("POST", f"{worker.url}/v1/chat/completions", json=body)
        response = await client.send(request, stream=True)  # the headers come before the prompt is worked on
        worker.process.send_signal(number)
        assert worker.process.wait(SOON) == 0
        await response.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_stops_at_once_while_it_starts(start_llama_worker, number):
    worker = start_llama_worker()
    worker.process.send_signal(number)
    worker.process.wait(SOON)
    assert not (worker.folder / ADDRESS_FILE).exists()


@pytest.mark.slow
def test_a_worker_takes_the_port_that_it_is_given(start_llama_worker):
    port = free_port()
    worker = start_llama_worker(port=port)
    worker.wait_until_it_listens()
    assert worker.url == f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_to_be(start_llama_worker, llama_worker):
    port = int(llama_worker.url.rpartition(":")[2])
    worker = start_llama_worker(port=port)
    assert worker.process.wait(60) == 1
    assert worker.failure == {
        "message": f"port {port} is taken by another program",
        "hint": "set `fleet.first_port` to 0, which takes any free one, or to another",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "expected"),
    [(50_000_000, "is incomplete"), (2_000, "is incomplete"), (0, "is not a GGUF file")],
)
def test_a_damaged_model_is_said_to_be(start_llama_worker, tmp_path, length, expected):
    path = tmp_path / "damaged.gguf"
    path.write_bytes(find_model(None).path.read_bytes()[:length])
    worker = start_llama_worker(model_path=str(path))
    assert worker.process.wait(60) == 1
    assert expected in worker.failure["message"]


@pytest.mark.slow
def test_a_model_that_llama_cpp_cannot_load_points_to_the_log(start_llama_worker, tmp_path):
    path = tmp_path / "strange.gguf"
    path.write_bytes(find_model(None).path.read_bytes().replace(b"llama", b"lxama", 1))
    worker = start_llama_worker(model_path=str(path))
    assert worker.process.wait(60) == 1
    assert worker.failure["hint"].startswith("its log says why")
    assert "lxama" in worker.log


@pytest.mark.slow
def test_a_system_without_openmp_borrows_torchs(start_llama_worker, tmp_path):
    (tmp_path / "libgomp.so.1").touch()  # found before the system's own, and no library
    worker = start_llama_worker(env={"LD_LIBRARY_PATH": str(tmp_path)})
    worker.wait_until_it_listens()
    libraries = {Path(file.path) for file in psutil.Process(worker.process.pid).memory_maps()}
    assert {path.parts[-3:] for path in libraries if "gomp" in path.name} == {
        ("torch", "lib", "libgomp.so.1")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("ModuleNotFoundError('No module named xllamacpp')", "run `pip install 'llmhost[local]'`"),
        ("ImportError('libx.so: cannot open shared object file')", "libx.so: cannot open shared object file"),
    ],
    ids=["not installed", "cannot be loaded"],
)
def test_an_engine_that_cannot_be_imported_says_why(start_llama_worker, tmp_path, error, says):
    (tmp_path / "xllamacpp.py").write_text(f"raise {error}")
    worker = start_llama_worker(env={"PYTHONPATH": str(tmp_path)})
    assert worker.process.wait(60) == 1
    assert says in f"{worker.failure['message']}\n{worker.failure['hint']}"


@pytest.mark.slow
def test_the_address_is_written_whole(llama_worker):
    assert json.loads(Path(llama_worker.folder, ADDRESS_FILE).read_text()) == {"url": llama_worker.url}
    assert sorted(path.name for path in llama_worker.folder.iterdir()) == [ADDRESS_FILE, "log", SPEC_FILE]
