from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.errors import Invalid, Unauthenticated
from millrace_sdk.discovery import DEFAULT_URL, connection


def stack(folder: Path) -> Path:
    home = folder / ".millrace"
    (home / "secrets").mkdir(parents=True)
    (home / "state.json").write_text(json.dumps({"urls": {"gateway": "http://127.0.0.1:9999/"}}))
    (home / "secrets/owner.token").write_text("owner\n")
    return home


def test_arguments_win(tmp_path: Path) -> None:
    stack(Path.cwd())
    found = connection("http://other/", "mine", environ={"MILLRACE_URL": "http://env", "MILLRACE_TOKEN": "env"})
    assert (found.url, found.token) == ("http://other", "mine")


def test_the_environment_wins_over_a_stack(tmp_path: Path) -> None:
    stack(Path.cwd())
    (tmp_path / "token").write_text("from file\n")
    environ = {"MILLRACE_URL": "http://env", "MILLRACE_TOKEN": "text", "MILLRACE_TOKEN_FILE": str(tmp_path / "token")}
    assert connection(environ=environ).token == "from file"
    assert connection(environ={"MILLRACE_TOKEN": "text"}).token == "text"
    assert connection(environ={"MILLRACE_TOKEN": "text"}).url == "http://127.0.0.1:9999"


def test_a_stack_is_found_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    found = connection(environ={})
    assert (found.url, found.token) == ("http://127.0.0.1:9999", "owner")
    assert "owner" not in repr(found)


def test_a_named_stack_is_used(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    home = stack(tmp_path / "x")
    assert connection(environ={"MILLRACE_HOME": str(home)}).token == "owner"


def test_without_a_token_it_says_what_to_do() -> None:
    with pytest.raises(Unauthenticated) as error:
        connection(environ={})
    assert "MILLRACE_TOKEN_FILE" in str(error.value.hint)


def test_a_token_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(Invalid, match="/no/such"):
        connection(environ={"MILLRACE_TOKEN_FILE": "/no/such"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"urls": 3}', "\0"])
def test_a_damaged_state_is_no_address(text: str) -> None:
    (stack(Path.cwd()) / "state.json").write_text(text)
    assert connection(environ={}).url == DEFAULT_URL
