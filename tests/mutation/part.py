"""The parts of the house whose tests are tried, each with the tests that are to notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Part:
    """Modules to plant mistakes in (globs), and the tests that answer for them (paths, or node
    ids)."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Tests that must not be cut off, as those are that a mistake hangs; and those that read the
    source, in which all mistakes stand, or fail without one."""
    words: str = ""
    """Of the tests, only those that these words of `pytest -k` choose."""
    kills: bool = False
    """Whether a mistake in it might end the wrong process: it is tried in a PID namespace, from
    which no process of the machine can be reached."""
    server: bool = False
    """Whether the tests ask for a PostgreSQL: one is started for all, which no test may stop."""


_IDENTITY: Final = (
    "listener",
    "membership",
    "port",
    "process",
    "procfs",
    "protection",
    "sockdiag",
    "termination",
    "view",
)
"""Who holds a port, who is who, and who may be ended."""

PARTS: Final = {
    "domain": Part(modules=("healer/domain/*.py",), tests=("tests/domain",)),
    "identity": Part(
        modules=tuple(f"healer/host/{name}.py" for name in _IDENTITY),
        tests=tuple(f"tests/host/test_{name}.py" for name in (*_IDENTITY, "hold")),
        # What it freezes nothing ends.
        without=("tests/host/test_termination.py::test_what_sigkill_does_not_end_is_unkillable",),
        kills=True,
    ),
    "store": Part(
        modules=("healer/store/*.py",),
        tests=(
            "tests/store/test_answer.py",
            "tests/store/test_archive.py",
            "tests/store/test_checkpoint.py",
            "tests/store/test_codec.py",
            "tests/store/test_compiled.py",
            "tests/store/test_connection.py",
            "tests/store/test_contract.py",
            "tests/store/test_cut.py",
            "tests/store/test_golden.py::test_the_golden_log_is_what_this_version_writes",
            "tests/store/test_lean.py",
            "tests/store/test_open_issues.py",
            "tests/store/test_place.py",
            "tests/store/test_sqlite.py",
            "tests/store/test_url.py",
            "tests/store/test_writer.py",
        ),
        # It asks whether a log follows a protocol, into which mutmut puts names of its own.
        without=("tests/store/test_open_issues.py::test_a_log_gives_its_rows",),
        # The store on a server is no part of this, but for what chooses it.
        words="not [postgresql] and not [postgresql- and not -postgresql",
        server=True,
    ),
    "postgres": Part(
        modules=("healer/store/postgres/*.py",),
        tests=(
            "tests/store/test_archive.py",
            "tests/store/test_contract.py",
            "tests/store/test_lean.py",
            "tests/store/test_lease.py",
            "tests/store/test_open_issues.py",
            "tests/store/test_plan.py",
            "tests/store/test_postgres.py",
            "tests/store/test_postgres_archive.py",
            "tests/store/test_postgres_checkpoint.py",
            "tests/store/test_postgres_fold.py",
            "tests/store/test_postgres_outage.py",
            "tests/store/test_postgres_place.py",
            "tests/store/test_url.py",
        ),
        words="(postgres or lease or plan or url) and not sqlite and not memory",
        without=(
            *(
                f"tests/store/test_postgres.py::{test}"
                for test in (
                    # They stop the server, or change it for all databases.
                    "test_a_crash_of_the_server_in_mid_run_loses_and_doubles_nothing",
                    "test_an_outage_beyond_the_patience_is_told_and_ends_without_a_human",
                    "test_closing_in_an_outage_waits_for_nothing",
                    "test_a_server_that_would_lose_events_is_refused",
                    "test_a_commit_is_durable_whatever_the_role_is_set_to",
                    "test_a_role_that_may_only_append_is_enough",
                    # They take long.
                    "test_killing_a_node_loses_nothing_and_stops_nobody",
                    "test_a_node_that_freezes_in_mid_append_does_not_stop_the_others",
                )
            ),
            *(
                f"tests/store/test_postgres_archive.py::{test}"
                for test in (
                    "test_killed_anywhere_it_is_done_or_nothing_has_happened",
                    "test_as_a_person_types_it",
                )
            ),
            "tests/store/test_postgres_checkpoint.py::test_an_outage_while_it_signs_costs_nothing",
            # It stops the server.
            "tests/store/test_postgres_outage.py::"
            "test_a_healer_waits_for_its_database_and_goes_on_by_itself",
            # It asks whether a log follows a protocol, into which mutmut puts names of its own.
            "tests/store/test_open_issues.py::test_a_log_gives_its_rows",
        ),
        server=True,
    ),
    "verifier": Part(
        modules=tuple(
            f"replay/{name}.py"
            for name in (
                "audit",
                "halves",
                "independent",
                "judge",
                "seal",
                "transition",
                "verify",
                "walk",
            )
        ),
        tests=(
            "tests/replay/test_audit.py",
            "tests/replay/test_audit_words.py",
            "tests/replay/test_halves.py",
            "tests/replay/test_independent.py",
            "tests/replay/test_judge.py",
            "tests/replay/test_seal.py",
            "tests/replay/test_verify.py",
            "tests/replay/test_walk.py",
        ),
        without=tuple(
            f"tests/replay/test_verify.py::test_the_second_verifier_is_{what}"
            for what in ("a_program", "short_and_knows_nothing_of_the_first")
        ),
    ),
}
