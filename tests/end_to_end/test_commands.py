"""The other commands as a user runs them, on a static fleet."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import shlex
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.ollama_server import Download, OllamaServer
from doubles.openai_server import OpenAIServer
from doubles.terminal import Terminal
from doubles.waiting import until
from plugins.commands import House, HouseMaker

from llmhost.fleet.known_fleets import KnownFleet, remember_fleet


async def test_up_says_what_it_did_and_asking_again_changes_nothing(
    house: House, static: HouseMaker, openai_server: OpenAIServer
) -> None:
    static(house, openai_server)
    first, again = await house.ok("up"), await house.ok("up")
    assert (first["plan"]["create"], again["plan"]["create"]) == (1, 0)
    (worker,) = again["workers"]
    assert (worker["ready"], worker["url"]) == (True, openai_server.url)
    assert again["plan"]["keep"] == [worker["id"]]
    assert again["hourly_cost_usd"] == 0.36


async def test_status_says_what_each_worker_is_and_costs(
    static_house: House, openai_server: OpenAIServer
) -> None:
    said = await static_house.ok("status")
    (worker,) = said["workers"]
    expected = {"id", "provider", "state", "url", "gpu", "price_per_hour", "spent_usd", "model", "ready"}
    assert expected <= set(worker)
    facts = (worker["provider"], worker["state"], worker["url"], worker["price_per_hour"], worker["model"])
    assert facts == ("static", "ready", openai_server.url, 0.36, "tiny")
    assert said["spent_usd"] == pytest.approx(worker["spent_usd"])
    assert said["hourly_cost_usd"] == 0.36


async def test_down_confirms_and_the_servers_of_others_go_on(
    static_house: House, openai_server: OpenAIServer
) -> None:
    (worker,) = (await static_house.ok("status"))["workers"]
    said = await static_house.ok("down")
    assert (said["destroyed"], said["remaining"]) == ([worker["id"]], [])
    assert (await static_house.ok("up"))["workers"][0]["ready"]


@pytest.mark.parametrize(("gpus", "code"), [("0", 2), ("1000", 4)])
async def test_a_number_of_workers_that_cannot_be_is_refused(
    static_house: House, gpus: str, code: int
) -> None:
    done = await static_house.run("up", "--gpus", gpus)
    assert done.code == code
    assert len((await static_house.ok("status"))["workers"]) == 1


async def test_up_with_a_server_that_is_not_there_fails_and_says_which(
    house: House, static: HouseMaker, refusing_port: int
) -> None:
    gone = SimpleNamespace(url=f"http://127.0.0.1:{refusing_port}", token=None)
    static(house, gone)
    done = await house.run("up")
    assert done.code == 1
    assert f"127.0.0.1:{refusing_port}" in done.err


async def test_up_that_works_in_part_exits_3_and_says_which_failed(house: House, static: HouseMaker) -> None:
    async with OpenAIServer() as good, OpenAIServer() as bad:
        static(house, good, bad)
        bad.refuse(400, b'{"error": {"message": "no such model"}}')
        done = await house.run("up", "--json")
    assert done.code == 3
    assert [worker["url"] for worker in done.json["workers"]] == [good.url]
    assert [failure["message"] for failure in done.json["failed"]]


async def test_in_shadow_mode_stats_show_what_the_cache_would_have_done(
    house: House, openai_server: OpenAIServer, static: HouseMaker
) -> None:
    static(house, openai_server, cache={"shadow": True})
    await house.ok("up")
    await house.ok("ask", "Explain machine learning briefly")
    again = await house.ok("ask", "Explain machine learning briefly")
    assert (again["source"], again["similarity"], again["shadow"]["source"]) == ("engine", None, "exact")
    said = await house.ok("stats")
    assert (said["hits"], said["misses"], said["hit_ratio"]) == ({"exact": 0, "semantic": 0}, 2, 0)
    assert said["shadow"]["hits"] == {"exact": 1, "semantic": 0}
    assert (said["shadow"]["hit_ratio"], said["shadow"]["engine_disagrees"]["estimate"]) == (0.5, 0)
    assert set(said["shadow"]) == {
        *("hits", "hit_ratio", "saved_usd", "compared", "served_error", "engine_disagrees")
    }


async def test_stats_count_what_was_asked(static_house: House) -> None:
    for question in ("Explain machine learning briefly",) * 2 + (
        "What is machine learning in simple terms?",
    ):
        await static_house.ok("ask", question)
    said = await static_house.ok("stats")
    assert (said["requests"], said["hits"], said["misses"]) == (3, {"exact": 1, "semantic": 1}, 1)
    assert said["hit_ratio"] == pytest.approx(2 / 3)
    assert said["tokens"] == {"prompt": 7, "completion": 4}
    assert set(said["latency_ms"]["hit"]) == {"p50", "p95", "p99"}
    assert said["user_latency_ms"]["hit"]["p95"] > said["latency_ms"]["hit"]["p95"]
    assert said["cost"]["spent_usd"] > 0
    assert said["cost"]["saved_usd"] > 0
    assert set(said["cost"]) == {
        *("spent_usd", "per_query_usd", "saved_usd", "baseline_usd", "savings_ratio"),
        *("spent_estimated", "worker_hours", "cost_reduction"),
    }
    assert not said["cost"]["spent_estimated"]  # its price is what its operator says
    assert said["redis"]["entries"] == 1
    assert said["redis"]["bytes_per_entry"] > 500
    assert set(said["redis"]) >= {
        "used_memory_bytes",
        "evicted",
        "expired",
        "keyspace_hits",
        "keyspace_misses",
    }
    assert [target["name"] for target in said["targets"]] == [
        "hit_ratio",
        "hit_p95_ms",
        "miss_p95_ms",
        "usd_per_query",
        "cost_reduction",
        "up_time",
        "served_error",
    ]
    assert (said["up_time"], said["left"]) == (1, 0)
    assert set(said["steps_ms"]) == {"embed", "lookup", "verify", "engine"}
    (worker,), (tenant,), (model,) = said["workers"], said["tenants"], said["models"]
    assert (worker["answers"], worker["completion_tokens"]) == (1, 4)
    assert 0 < worker["utilization"] < 1
    assert (tenant["name"], tenant["requests"], tenant["semantic"]) == ("default", 3, 1)
    assert (model["name"], model["completion_tokens"]) == ("tiny", 12)
    assert sum(point["requests"] for point in said["series"]) == 3
    (top,) = said["top_questions"]
    assert (top["question"], top["hits"]) == ("Explain machine learning briefly", 2)
    assert set(said["served_error"]) >= {"estimate", "low", "high", "samples"}


async def test_a_trace_of_what_was_asked_can_be_simulated(static_house: House, tmp_path: Path) -> None:
    for question in ("Who was Plato?", "Who was Plato?", "What is Redis?"):
        await static_house.ok("ask", question)
    trace = tmp_path / "questions.csv"
    done = await static_house.run("stats", "--export", str(trace))
    assert done.out == ""
    assert "--hit-ratio 0.33" in done.err
    played = await static_house.ok("scale", "simulate", str(trace))
    assert played["questions"] == 3
    lines = [line.split(",") for line in trace.read_text().splitlines()[1:]]
    assert sum(int(completion) for _, _, completion in lines) == 12


async def test_personal_questions_are_not_among_those_that_were_asked_most(
    house: House, openai_server: OpenAIServer, static: HouseMaker
) -> None:
    static(house, openai_server, cache={"admission": "all"})
    await house.ok("up")
    for question in ("What is my bank account balance?", "Who was Plato?") * 2:
        await house.ok("ask", question)
    assert [top["question"] for top in (await house.ok("stats"))["top_questions"]] == ["Who was Plato?"]


async def test_where_users_have_caches_of_their_own_no_question_is_shown(
    house: House, openai_server: OpenAIServer, static: HouseMaker
) -> None:
    static(house, openai_server, gateway={"user_header": "X-User", "autostart": False})
    await house.ok("up")
    for _ in range(2):
        await house.ok("ask", "Who was Plato?")
    assert (await house.ok("stats"))["top_questions"] == []


@pytest.mark.parametrize("by", ["day", "worker", "tenant", "model"])
async def test_rows_are_the_same_as_json_and_as_csv(static_house: House, by: str) -> None:
    await static_house.ok("ask", "Who was Plato?")
    empty = (await static_house.run("stats", "--by", by, "--since", "1m", "--csv")).out
    (row,) = (await static_house.ok("stats", "--by", by))["rows"]
    done = await static_house.run("stats", "--by", by, "--csv")
    (cells,) = csv.DictReader(io.StringIO(done.out))
    assert set(cells) == set(row)
    assert empty.splitlines()[0] == done.out.splitlines()[0]
    count = "answers" if by == "worker" else "requests"
    assert int(cells[count]) == row[count] == 1


async def test_what_workers_have_cost_stays_known_after_they_are_gone(static_house: House) -> None:
    before = (await static_house.ok("stats"))["cost"]["spent_usd"]
    await static_house.ok("down")
    after = (await static_house.ok("stats"))["cost"]["spent_usd"]
    assert 0 < before < after
    assert (await static_house.ok("stats"))["cost"]["spent_usd"] == after


async def test_the_cache_can_be_looked_into_and_corrected(static_house: House) -> None:
    entries = [
        (await static_house.ok("ask", question))["entry"] for question in ("What is Redis?", "Who was Plato?")
    ]
    listed = await static_house.ok("cache", "ls")
    assert [entry["entry"] for entry in listed["entries"]] == entries[::-1]
    got = await static_house.ok("cache", "get", entries[0][:10])
    assert (got["question"], got["answer"]["text"]) == ("What is Redis?", "Hello, Wörld!")
    assert got["answer"]["worker"].startswith("static-")
    assert (await static_house.ok("cache", "forget", entries[0]))["forgotten"] == [entries[0]]
    by_worker = await static_house.ok("cache", "forget", "--worker", got["answer"]["worker"])
    assert by_worker["forgotten"] == entries[1:]
    await static_house.ok("ask", "What is Redis?")
    assert (await static_house.ok("cache", "clear", "--yes"))["cleared"] == 1
    assert (await static_house.ok("cache", "ls"))["entries"] == []


@pytest.mark.parametrize(("command", "shown"), [("status", "static-"), ("stats", "The last 24h")])
async def test_a_screen_is_refreshed_until_ctrl_c(static_house: House, command: str, shown: str) -> None:
    terminal = await Terminal.run([sys.executable, "-m", "llmhost", command, "--watch"], os.environ)
    try:
        await terminal.until(shown)
        seen = len(terminal.shown)
        await until(lambda: terminal.look() > seen)
        terminal.type("\x03")
        assert await terminal.end() == 0
        assert {screen.count(shown) for screen in terminal.shown.split("\x1b[H")[2:]} == {1}
    finally:
        terminal.close()


@pytest.mark.parametrize("command", ["status", "stats"])
@pytest.mark.parametrize(
    ("options", "problem"),
    [(["--watch"], "needs a terminal"), (["--watch", "--json"], "do not go together")],
)
async def test_a_screen_to_refresh_needs_a_terminal_of_its_own(
    house: House, command: str, options: list[str], problem: str
) -> None:
    done = await house.run(command, *options)
    assert (done.code, problem in done.error) == (2, True)


async def test_clearing_the_cache_without_a_terminal_wants_a_yes(static_house: House) -> None:
    await static_house.ok("ask", "What is Redis?")
    done = await static_house.run("cache", "clear")
    assert (done.code, "--yes" in done.err) == (2, True)
    assert len((await static_house.ok("cache", "ls"))["entries"]) == 1


@pytest.mark.parametrize("command", ["stats", "cache ls", "cache clear --yes"])
async def test_commands_that_need_redis_say_so_when_it_is_away(
    house: House, static: HouseMaker, openai_server: OpenAIServer, refusing_port: int, command: str
) -> None:
    static(house, openai_server, redis={"host": "127.0.0.1", "port": refusing_port})
    done = await house.run(*command.split())
    assert done.code == 5
    assert f"127.0.0.1:{refusing_port}" in done.error


async def test_without_redis_workers_can_still_be_taken_down(
    house: House, static: HouseMaker, openai_server: OpenAIServer, refusing_port: int
) -> None:
    static(house, openai_server, redis={"host": "127.0.0.1", "port": refusing_port})
    assert (await house.run("up")).code == 0
    assert len((await house.ok("down"))["destroyed"]) == 1


async def test_an_embedded_redis_that_cannot_be_stopped_does_not_hide_what_down_did(
    static_house: House, state_folder: Path
) -> None:
    lock = state_folder / "redis" / "redis.lock"
    lock.unlink()
    lock.mkdir()
    done = await static_house.run("down", "--all", "--json")
    assert len(json.loads(done.out)["destroyed"]) == 1, done.err
    assert "warning: the embedded Redis was not stopped: cannot lock" in done.err
    lock.rmdir()
    await static_house.ok("down", "--all")


async def test_the_embedded_redis_outlives_commands_and_down_all_ends_it(
    static_house: House, left_running: Callable[[], list[object]]
) -> None:
    await static_house.ok("ask", "What is Redis?")
    assert len(left_running()) == 1
    assert (await static_house.ok("down", "--all"))["redis_stopped"]
    assert left_running() == []
    assert (await static_house.ok("ask", "What is Redis?"))["source"] == "exact"


async def test_a_state_folder_that_cannot_be_is_one_clear_line(
    house: House, static: HouseMaker, openai_server: OpenAIServer, tmp_path: Path
) -> None:
    static(house, openai_server)
    (tmp_path / "file").write_text("")
    done = await house.run("up", LLMHOST_STATE_DIR=str(tmp_path / "file" / "state"))
    assert done.code == 1
    assert "LLMHOST_STATE_DIR" in done.err


async def test_without_a_file_the_user_is_told_of_the_built_in_fleet(house: House) -> None:
    done = await house.run("cache", "ls")
    assert done.err == "fleet local (built in; `llmhost init` writes a configuration)\n"
    done = await house.run("ask", "What is Redis?")
    assert "no configuration file: using the built-in local fleet (see `llmhost init`)\n" in done.err


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "status",
        "scale --dry-run",
        "scale history",
        "doctor",
        "stats",
        "cache ls",
        "cache clear -y",
        "down",
    ],
)
async def test_a_command_begins_with_the_fleet_that_it_is_about(static_house: House, command: str) -> None:
    done = await static_house.run(*command.split())
    assert done.err.splitlines()[0] == "fleet test (from ./llmhost.yaml)"
    for option in ("--json", "--quiet"):
        assert "fleet test (" not in (await static_house.run(*command.split(), option)).err


async def test_a_fleet_of_another_folder_is_named_with_its_own_file(
    static_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for command in ("status", "doctor"):
        done = await static_house.run(command, "--fleet", "test")
        assert done.err.splitlines()[0] == f"fleet test (from {here / 'llmhost.yaml'})", command


async def test_before_it_clears_the_cache_it_says_whose_entries_are_removed(static_house: House) -> None:
    await static_house.ok("ask", "What is Redis?")
    await remember_fleet(Path(os.environ["LLMHOST_STATE_DIR"]) / "fleets", KnownFleet("blue", "static"))
    terminal = await Terminal.run([sys.executable, "-m", "llmhost", "cache", "clear"], os.environ)
    try:
        await terminal.until("[y/N]: ")
        terminal.type("n\n")
        assert await terminal.end() == 1
    finally:
        terminal.close()
    assert "Remove 1 entry of the namespace 'cache'" in terminal.shown
    assert "(known here: test, blue)?" in terminal.shown
    assert len((await static_house.ok("cache", "ls"))["entries"]) == 1


async def test_an_exact_hit_loads_neither_the_embedder_nor_an_http_client(static_house: House) -> None:
    await static_house.ok("ask", "What is Redis?")
    snippet = (
        "import sys; from llmhost.cli.app import execute;"
        "code = execute(['ask', 'What is Redis?', '--json']);"
        "heavy = {'onnxruntime', 'torch', 'httpx', 'tokenizers', 'sentence_transformers', 'numpy'};"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", snippet), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert b'"source": "exact"' in out
    assert err.decode().splitlines()[-1] == "0 []"


async def test_an_ollama_that_already_runs_works_after_init_and_up(house: House) -> None:
    async with OllamaServer("llama3.2:latest") as ollama:
        ollama.models.clear()
        ollama.registry["llama3.2:latest"] = Download()
        await house.ok(
            *("init", "--provider", "static", "--engine", "ollama"),
            *("--url", ollama.url, "--model", "llama3.2"),
        )
        assert (await house.ok("up"))["workers"][0]["ready"]
        said = await house.ok("ask", "What is Redis?")
    assert (said["answer"], said["source"], said["model"]) == ("Hello, Wörld!", "engine", "llama3.2")


async def test_a_server_of_the_users_own_is_released_not_destroyed(house: House, static: HouseMaker) -> None:
    async with OpenAIServer() as one, OpenAIServer() as other:
        static(house, one, other)
        await house.ok("up")
        plan = await house.run("up", "--gpus", "1", "--dry-run")
        assert "Plan: keep 1, release 1 (1 wanted, 1 running)" in plan.out
        assert "  release static-" in plan.out
        down = await house.run("down")
    assert down.out.count("Released static-") == 2
    for done in (plan, down):
        assert "estroy" not in done.out + done.err


async def test_a_question_is_answered_where_no_thread_can_be_started(static_house: House) -> None:
    """As under a small limit of processes: the models are loaded in threads, and so are not."""
    limited = (
        "import threading, sys\n"
        "from llmhost.cli.app import execute\n"
        "def refuse(self):\n"
        '    raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
        "sys.exit(execute(['ask', 'What is Redis?']))\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", limited), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out.decode()) == (0, "Hello, W\u00f6rld!\n"), err.decode()
    assert err.decode().count("warning: ") == 1
    assert "can't start new thread" in err.decode()


async def test_a_bench_measures_hits_and_workers_and_leaves_nothing(static_house: House) -> None:
    await static_house.ok("ask", "Who was Plato?")
    before = await static_house.ok("stats")
    said = await static_house.ok("bench", "--quick")
    rows = {row["name"]: row for row in said["rows"]}
    assert set(rows) == {"embedding", "Redis", "exact hit", "semantic hit", "miss"}
    assert rows["exact hit"]["count"] == rows["exact hit"]["asked"] == 10
    assert rows["semantic hit"]["count"] > 0
    assert rows["exact hit"]["p50_ms"] < rows["semantic hit"]["p50_ms"]
    (worker,) = said["workers"]
    assert worker["queries_per_minute"] == said["fleet"]["queries_per_minute"] > 0
    after = await static_house.ok("stats")
    assert (after["requests"], after["redis"]["entries"]) == (before["requests"], 1)
    assert said["notes"] == []


async def test_a_bench_without_a_worker_measures_the_cache_alone(house: House) -> None:
    done = await house.run("bench", "--quick", "--json")
    assert done.code == 0
    assert [row["name"] for row in done.json["rows"]] == ["embedding", "Redis", "exact hit", "semantic hit"]
    assert done.json["notes"] == ["no worker answers: run `llmhost up`"]


async def test_a_step_of_scale_tells_once_that_autoscaling_is_paused(house: House, tmp_path: Path) -> None:
    told = tmp_path / "told.jsonl"
    append = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))"
    # A program is started for a file that is named, not for one that is found.
    path = house.configure(notify={"command": shlex.join([sys.executable, "-c", append])})
    environ = {"LLMHOST_CONFIG": f"./{path}"}
    await house.run("up", **environ)
    await house.run("down", **environ)
    for _ in range(2):
        await house.run("scale", **environ)
    (notice,) = map(json.loads, told.read_text().splitlines())
    assert notice["event"] == "autoscaling_paused"
    assert "paused since" in notice["text"].lower()
