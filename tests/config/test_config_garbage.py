"""Whatever stands in the file, the answer is a configuration or a ConfigError."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from healer.config import Config, parse
from healer.domain.spec import PROBES, Budget, ComponentSpec
from healer.errors import ConfigError

KEYS = [*Config.model_fields, *ComponentSpec.model_fields, *Budget.model_fields, *PROBES, "command"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["8220-8229", "5s", "${X}", "${Y", "$$", "50%", "sqlite:///x", "::1", *KEYS]),
)
KEYED = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYED, inner, max_size=5)),
    max_leaves=25,
)
FILES = st.one_of(
    TREES,
    st.dictionaries(st.sampled_from(list(Config.model_fields)), TREES, max_size=6),
    st.fixed_dictionaries(
        {"components": st.dictionaries(KEYED, st.dictionaries(KEYED, TREES, max_size=6))}
    ),
)


def attempt(text: str) -> None:
    problems: tuple[str, ...] | None = None
    try:
        config = parse(text, source="x", environ={"X": "1"}, hostname="h", directory=Path("/d"))
    except ConfigError as error:
        problems = error.problems
    else:
        assert Config.model_validate_json(config.model_dump_json()) == config
    assert problems != ()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_random_text_never_raises_anything_else(text: str):
    attempt(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abport:[]{}&*!<->#|'\"\n \t$?%,~.0159", max_size=120))
def test_random_yaml_never_raises_anything_else(text: str):
    attempt(text)


@settings(max_examples=400, deadline=None)
@given(FILES)
def test_random_trees_never_raise_anything_else(tree: object):
    attempt(yaml.safe_dump(tree, allow_unicode=True))
