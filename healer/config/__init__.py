"""`healer.yaml`: one tree, read strictly; every mistake is said at once, with what is allowed."""

from healer.config.configuration import (
    PLAYBOOKS,
    Config,
    Defaults,
    check_store,
    config_schema,
    load,
    parse,
)

__all__ = ["PLAYBOOKS", "Config", "Defaults", "check_store", "config_schema", "load", "parse"]
