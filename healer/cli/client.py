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
_FOR_THE_TOKEN: Final = frozenset({401, 403})
"""Statuses by which a token is refused that is not known or may do too little."""


class NoHealerError(HealerError):
    """No healer answers where the configuration says."""


class RefusedError(HealerError):
    """The healer answered that it will not. `status` and `problem` are its own."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(str(problem["detail"]))


class Client:
    """The API of the healer that runs with `config`."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def get(self, path: str, *, within: float | None = _ANSWER_WITHIN) -> Any:
        """Read; the answer may take `within` seconds, or however long.

        Raises:
            NoHealerError: nothing answers.
            RefusedError: the healer refused.
        """
        return self._ask("GET", path, None, within)

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
        except (OSError, http.client.IncompleteRead) as error:
            raise NoHealerError(
                f"cannot reach a healer at {self._config.listen}: {_words(error)}; "
                "start one with `healer serve`"
            ) from error
        except http.client.HTTPException as error:
            raise self._stranger() from error
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise self._stranger() from error
        refused = status >= http.client.BAD_REQUEST
        # A healer answers with an object, and says why where it refuses.
        if not isinstance(answer, dict) or (refused and "detail" not in answer):
            raise self._stranger()
        if refused:
            if status in _FOR_THE_TOKEN and "Authorization" in headers:
                file = token_path(self._config)
                answer["detail"] = f"{answer['detail']} (the token sent is that of {file})"
            raise RefusedError(status, answer)
        return answer

    def _stranger(self) -> NoHealerError:
        where = self._config.listen
        return NoHealerError(f"cannot understand what answers at {where}: it is no healer")

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


def _words(error: OSError | http.client.IncompleteRead) -> str:
    match error:
        case http.client.IncompleteRead():
            return "it hung up in the middle of its answer"
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
