"""Asks the healer that runs. The standard library's client: `healer status` must start fast."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from healer.api.token import read_token, token_path
from healer.config import Config
from healer.errors import HealerError

__all__ = ["Client", "NoHealerError", "RefusedError"]

_CONNECT_WITHIN: Final = 2.0
_ANSWER_WITHIN: Final = 10.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_PREFIX: Final = "/network-healer"


class NoHealerError(HealerError):
    """No healer answers where the configuration says."""


class RefusedError(HealerError):
    """The healer answered that it will not. `status` and `problem` are its own."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(str(problem.get("detail") or f"cannot: the healer answered {status}"))


class Client:
    """The API of the healer that runs with `config`."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def get(self, path: str) -> Any:
        """Read.

        Raises:
            NoHealerError: nothing answers.
            RefusedError: the healer refused.
        """
        return self._ask("GET", path, None, _ANSWER_WITHIN)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Act, and wait for the answer however long it takes.

        Raises:
            NoHealerError: nothing answers.
            ConfigError: the token cannot be read.
            RefusedError: the healer refused.
        """
        return self._ask("POST", path, json.dumps(body).encode(), None)

    def _ask(self, method: str, path: str, body: bytes | None, timeout: float | None) -> Any:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(timeout)
            headers = self._headers(acts=body is not None)
            connection.request(method, f"{_PREFIX}{path}", body, headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoHealerError(
                f"cannot reach a healer at {self._config.listen}: {_words(error)}; "
                "start one with `healer serve`"
            ) from error
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise NoHealerError(
                f"cannot understand what answers at {self._config.listen}: it is no healer"
            ) from error
        if status >= http.client.BAD_REQUEST:
            raise RefusedError(status, answer if isinstance(answer, dict) else {})
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._config.endpoint
        host = _EVERYWHERE.get(host, host)
        tls = self._config.tls
        if tls is None:
            return http.client.HTTPConnection(host, port, timeout=_CONNECT_WITHIN)
        import ssl  # noqa: PLC0415 - paid for by those who use it

        # The healer of this machine shows the certificate in this very file, whatever its name is.
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return http.client.HTTPSConnection(host, port, timeout=_CONNECT_WITHIN, context=context)

    def _headers(self, *, acts: bool) -> dict[str, str]:
        config = self._config
        if not acts and config.auth.read == "open" and not config.exposed:
            return {}
        token = read_token(token_path(config))
        headers = {"Authorization": f"Bearer {token}"}
        return headers | {"Content-Type": "application/json"} if acts else headers


def _words(error: OSError | http.client.HTTPException) -> str:
    match error:
        case ConnectionRefusedError():
            return "nothing listens there, so none is running"
        case TimeoutError():
            return "it does not answer in time"
        case ConnectionError() | http.client.RemoteDisconnected():
            return "it hung up without an answer"
        case OSError(strerror=str(why)):
            return why
        case _:
            return str(error) or type(error).__name__
