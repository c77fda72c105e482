"""The management API of the pocket platform: what a person or a demo does to sites and containers.

    POST   /v1/platform/environments                       {"site": "acme", "containers": 2, ...}   201
    GET    /v1/platform/environments                       all of them
    GET    /v1/platform/environments/{site}/{environment}
    PATCH  /v1/platform/environments/{site}/{environment}  {"containers": 5}                        202
    DELETE /v1/platform/environments/{site}/{environment}                                           204
    POST   /v1/platform/containers/{id}/{deed}             see DEEDS                                200
    GET    /v1/platform/containers/{id}

Every error is JSON with one sentence that says what to do.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from edge.platform.containers import ContainerFailed
from edge.platform.environment_api import EnvironmentApi, Size
from edge.platform.fleet import Fleet, Leave
from edge.platform.registry import NameTaken, PlatformEnvironment, Registry, UnknownName
from edge.platform.route_api import JSON, Handler, problem

ENVIRONMENT = "/v1/platform/environments/{site}/{environment}"
CONTAINER = "/v1/platform/containers/{id}"


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deed without particulars."""


class MoveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    leave: Leave = "nothing"
    "What answers at the old port afterwards."
    announce: bool = True
    "False: no change event, as if it were lost on its way."


class FillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    on: bool = True


class SlowBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    factor: Annotated[float, msgspec.Meta(gt=0, le=10_000)]
    "Times the usual service time; 1 = normal."


Body = TypeVar("Body")
Deed = Callable[[Fleet, str, Any], Awaitable[None]]


async def _move(fleet: Fleet, container_id: str, body: MoveBody) -> None:
    await fleet.move(container_id, leave=body.leave, announce=body.announce)


async def _kill(fleet: Fleet, container_id: str, _: Nothing) -> None:
    await fleet[container_id].kill()


async def _stop(fleet: Fleet, container_id: str, _: Nothing) -> None:
    await fleet[container_id].stop()


async def _sleep(fleet: Fleet, container_id: str, _: Nothing) -> None:
    await fleet.sleep(container_id)


async def _wake(fleet: Fleet, container_id: str, _: Nothing) -> None:
    await fleet.wake(container_id)


async def _fill(fleet: Fleet, container_id: str, body: FillBody) -> None:
    fleet[container_id].fill(on=body.on)


async def _slow(fleet: Fleet, container_id: str, body: SlowBody) -> None:
    fleet[container_id].slow(body.factor)


async def _heal(fleet: Fleet, container_id: str, _: Nothing) -> None:
    await fleet[container_id].heal()


DEEDS: dict[str, tuple[Deed, type]] = {
    "move": (_move, MoveBody),
    "kill": (_kill, Nothing),
    "stop": (_stop, Nothing),
    "sleep": (_sleep, Nothing),
    "wake": (_wake, Nothing),
    "fill": (_fill, FillBody),
    "slow": (_slow, SlowBody),
    "heal": (_heal, Nothing),
}


@web.middleware
async def told_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON with a sentence."""
    try:
        return await handler(request)
    except msgspec.ValidationError as error:
        return problem(400, f"The body is not what was expected: {error}. Correct it and send it again.")
    except msgspec.DecodeError as error:
        return problem(400, f"The body is not JSON ({error}): send a JSON object.")
    except UnknownName as error:
        return problem(404, f"{error}.")
    except NameTaken as error:
        return problem(409, f"{error}.")
    except ContainerFailed as error:
        return problem(500, f"{error}.")
    except web.HTTPNotFound:
        return problem(404, f"There is nothing at {request.path}: the platform's own paths begin with /v1/.")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(405, f"{request.path} takes {allowed}, not {request.method}.", Allow=allowed)


@dataclass(frozen=True, slots=True)
class ManageApi:
    """The handlers."""

    registry: Registry
    fleet: Fleet
    environment_api: EnvironmentApi

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/platform/environments", self.list)
        app.router.add_post("/v1/platform/environments", self.create)
        app.router.add_get(ENVIRONMENT, self.show)
        app.router.add_patch(ENVIRONMENT, self.resize)
        app.router.add_delete(ENVIRONMENT, self.remove)
        app.router.add_get(CONTAINER, self.show_container)
        app.router.add_post(CONTAINER + "/{deed}", self.do)

    async def list(self, _: web.Request) -> web.Response:
        return _json([self._shown(environment) for environment in self.registry.environments()])

    async def create(self, request: web.Request) -> web.Response:
        environment = await self.environment_api.create(await _body(request, dict[str, Any]))
        return _json(self._shown(environment), status=201)

    async def show(self, request: web.Request) -> web.Response:
        return _json(self._shown(self.registry.environment(*_key(request))))

    async def resize(self, request: web.Request) -> web.Response:
        """202: the containers come and go after the answer."""
        self.environment_api.resize(*_key(request), await _body(request, Size))
        return _json(self._shown(self.registry.environment(*_key(request))), status=202)

    async def remove(self, request: web.Request) -> web.Response:
        await self.environment_api.remove(*_key(request))
        return web.Response(status=204)

    async def show_container(self, request: web.Request) -> web.Response:
        return _json(self._shown_container(request.match_info["id"]))

    async def do(self, request: web.Request) -> web.Response:
        container_id, name = request.match_info["id"], request.match_info["deed"]
        if name not in DEEDS:
            return problem(404, f"A container cannot {name}; it can {', '.join(DEEDS)}.")
        deed, shape = DEEDS[name]
        await deed(self.fleet, container_id, await _body(request, shape))
        return _json(self._shown_container(container_id))

    def _shown(self, environment: PlatformEnvironment) -> dict[str, Any]:
        rows = self.registry.containers(environment.site, environment.environment)
        shown: dict[str, Any] = msgspec.to_builtins(environment)
        shown["goal"] = {"containers": shown.pop("containers"), "standby": shown.pop("standby")}
        shown["containers"] = [self._shown_container(row.id) for row in rows]
        return shown

    def _shown_container(self, container_id: str) -> dict[str, Any]:
        """What is believed, and beside it whether it really listens."""
        shown: dict[str, Any] = msgspec.to_builtins(self.registry.container(container_id))
        return {**shown, "listening": self.fleet[container_id].listening}


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["site"], request.match_info["environment"]


async def _body(request: web.Request, shape: type[Body]) -> Body:
    """The JSON body in this shape; no body at all = {}. Raises msgspec.DecodeError."""
    return msgspec.json.decode(await request.read() or b"{}", type=shape)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)
