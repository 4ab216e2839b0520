"""One table from error to HTTP status, and what a client is told."""

from __future__ import annotations

import json

import pytest

from healer import errors
from healer.api.listener import ListenError
from healer.api.problem import problem_of
from projections.history import HistoryQueryError
from projections.projection import ProjectionStoppedError, UnreadableEventError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownNameError("component", "x", ["y"]), 404),
        (errors.UnknownNameError("issue", "x", []), 404),
        (errors.UnknownNameError("playbook", "x", ["y"]), 422),
        (errors.UnknownNameError("issue type", "x", ["y"]), 422),
        (errors.HealInProgressError("chat_api", "i1"), 409),
        (errors.LeaseLostError("chat_api", "a"), 409),
        (errors.NodeBusyError("postgresql:///db", "a"), 503),
        (errors.HealWithheldError("chat_api", None, "paused", {}), 409),
        (errors.IllegalTransitionError("verify", "failed", []), 409),
        (errors.IllegalCommandError("heal", "why"), 409),
        (errors.IssueConflictError("cannot"), 409),
        (errors.StoreError("cannot"), 503),
        (errors.StoreBusyError("x.db", 1), 503),
        (errors.ConfigError("healer.yaml", ["one", "two"]), 422),
        (HistoryQueryError("limit", 0, "1 to 1000"), 422),
        (ProjectionStoppedError("stats", 7, ValueError("x")), 503),
        (errors.LaunchError("cannot"), 500),
        (ListenError("cannot"), 500),
        (UnreadableEventError("x"), 500),
    ],
)
def test_every_error_has_its_status(error: errors.HealerError, status: int) -> None:
    problem = problem_of(error, "/network-healer/heal")
    shown = json.loads(problem.body())
    assert shown["status"] == problem.status == status
    assert shown["type"].startswith("urn:network-healer:problem:")
    assert shown["title"]
    assert shown["detail"] == str(error)
    assert shown["instance"] == "/network-healer/heal"
    assert shown["errors"]


def test_an_unknown_name_comes_with_those_that_are_known() -> None:
    (entry,) = problem_of(errors.UnknownNameError("playbook", "x", ["a", "b"]), "/").errors
    assert (entry["field"], entry["value"], entry["allowed"]) == ("playbook", "x", ["a", "b"])


def test_a_heal_that_another_node_carries_comes_with_its_name() -> None:
    shown = json.loads(problem_of(errors.HealInProgressError("chat_api", "i1", "b"), "/").body())
    assert (shown["issue_id"], shown["node"]) == ("i1", "b")
    assert shown["detail"].endswith("is being healed already by node 'b'")


def test_a_withheld_heal_comes_with_its_arithmetic() -> None:
    error = errors.HealWithheldError("chat_api", "i1", "backoff", {"attempts": 3.0})
    shown = json.loads(problem_of(error, "/").body())
    assert shown["issue_id"] == "i1"
    assert shown["reason"] == "backoff"
    assert shown["arithmetic"] == {"attempts": 3.0}


def test_each_problem_of_a_configuration_is_an_entry() -> None:
    problem = problem_of(errors.ConfigError("healer.yaml", ["one", "two"]), "/")
    assert [entry["detail"] for entry in problem.errors] == ["one", "two"]
