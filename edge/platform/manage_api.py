"""The management API of the pocket platform: creates and changes environments, and acts on containers.

    POST   /v1/platform/environments                       {"site": "acme", "containers": 2, ...}   201
    GET    /v1/platform/environments                       all of them
    GET    /v1/platform/environments/{site}/{environment}
    PATCH  /v1/platform/environments/{site}/{environment}  {"containers": 5}                        202
    DELETE /v1/platform/environments/{site}/{environment}                                           204
    POST   /v1/platform/containers/{id}/{action}           see ACTIONS                              200
    GET    /v1/platform/containers/{id}
    GET    /v1/platform/upkeep                             the Reaper and the migration dragon
    PATCH  /v1/platform/upkeep/{reaper|dragon}             {"on": true, "seconds": 10}

Every error is JSON with one sentence that names the remedy.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from edge.platform.containers.container import ContainerFailed
from edge.platform.environment_api import EnvironmentApi, Size
from edge.platform.fleet import Fleet, Leave
from edge.platform.registry import NameTaken, Registry, StoredEnvironment, UnknownName
from edge.platform.route_api import JSON, Handler, problem
from edge.platform.upkeep.upkeep import Upkeep

ENVIRONMENT = "/v1/platform/environments/{site}/{environment}"
CONTAINER = "/v1/platform/containers/{id}"
UPKEEP = "/v1/platform/upkeep"


class EmptyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an action without parameters."""


class MoveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the action `move`."""

    leave: Leave = "nothing"
    "What listens at the old port afterwards."
    announce: bool = True
    "False: no change event, as if it were lost."
    server: str | None = None
    "Where to; absent = the server with the fewest containers of the environment."


class FillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the action `fill`."""

    on: bool = True


class SlowBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the action `slow`."""

    factor: Annotated[float, msgspec.Meta(gt=0, le=10_000)]
    "Factor of the service time; 1 = normal."


class UpkeepBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a change of the Reaper or the dragon; an absent member stays as it is."""

    on: bool | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] | None = None


Body = TypeVar("Body")
Action = Callable[[Fleet, str, Any], Awaitable[None]]


async def _move(fleet: Fleet, container_id: str, body: MoveBody) -> None:
    await fleet.move(container_id, to=body.server, leave=body.leave, announce=body.announce)


async def _kill(fleet: Fleet, container_id: str, _: EmptyBody) -> None:
    await fleet[container_id].kill()


async def _stop(fleet: Fleet, container_id: str, _: EmptyBody) -> None:
    await fleet[container_id].stop()


async def _sleep(fleet: Fleet, container_id: str, _: EmptyBody) -> None:
    await fleet.sleep(container_id)


async def _wake(fleet: Fleet, container_id: str, _: EmptyBody) -> None:
    await fleet.wake(container_id)


async def _fill(fleet: Fleet, container_id: str, body: FillBody) -> None:
    fleet[container_id].fill(on=body.on)


async def _slow(fleet: Fleet, container_id: str, body: SlowBody) -> None:
    fleet[container_id].slow(body.factor)


async def _heal(fleet: Fleet, container_id: str, _: EmptyBody) -> None:
    await fleet[container_id].heal()


ACTIONS: dict[str, tuple[Action, type]] = {
    "move": (_move, MoveBody),
    "kill": (_kill, EmptyBody),
    "stop": (_stop, EmptyBody),
    "sleep": (_sleep, EmptyBody),
    "wake": (_wake, EmptyBody),
    "fill": (_fill, FillBody),
    "slow": (_slow, SlowBody),
    "heal": (_heal, EmptyBody),
}


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render errors as JSON with a sentence."""
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
    """The handlers of the management API."""

    registry: Registry
    fleet: Fleet
    environment_api: EnvironmentApi
    upkeep: Sequence[Upkeep] = ()

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/platform/environments", self.list)
        app.router.add_post("/v1/platform/environments", self.create)
        app.router.add_get(ENVIRONMENT, self.show)
        app.router.add_patch(ENVIRONMENT, self.resize)
        app.router.add_delete(ENVIRONMENT, self.remove)
        app.router.add_get(CONTAINER, self.show_container)
        app.router.add_post(CONTAINER + "/{action}", self.act)
        app.router.add_get(UPKEEP, self.show_upkeep)
        app.router.add_patch(UPKEEP + "/{name}", self.change_upkeep)

    async def list(self, _: web.Request) -> web.Response:
        return _json([self._rendered(environment) for environment in self.registry.environments()])

    async def create(self, request: web.Request) -> web.Response:
        environment = await self.environment_api.create(await _body(request, dict[str, Any]))
        return _json(self._rendered(environment), status=201)

    async def show(self, request: web.Request) -> web.Response:
        return _json(self._rendered(self.registry.environment(*_key(request))))

    async def resize(self, request: web.Request) -> web.Response:
        """Set the goal. 202, because containers start and stop after the response."""
        self.environment_api.resize(*_key(request), await _body(request, Size))
        return _json(self._rendered(self.registry.environment(*_key(request))), status=202)

    async def remove(self, request: web.Request) -> web.Response:
        await self.environment_api.remove(*_key(request))
        return web.Response(status=204)

    async def show_container(self, request: web.Request) -> web.Response:
        return _json(self._rendered_container(request.match_info["id"]))

    async def act(self, request: web.Request) -> web.Response:
        container_id, name = request.match_info["id"], request.match_info["action"]
        if name not in ACTIONS:
            return problem(404, f"A container cannot {name}; it can {', '.join(ACTIONS)}.")
        action, kind = ACTIONS[name]
        await action(self.fleet, container_id, await _body(request, kind))
        return _json(self._rendered_container(container_id))

    async def show_upkeep(self, _: web.Request) -> web.Response:
        return _json({upkeep.name: {"on": upkeep.on, "seconds": upkeep.seconds} for upkeep in self.upkeep})

    async def change_upkeep(self, request: web.Request) -> web.Response:
        """Switch the Reaper or the dragon on or off, or set its seconds."""
        name = request.match_info["name"]
        found = [upkeep for upkeep in self.upkeep if upkeep.name == name]
        if not found:
            return problem(404, f"There is no {name}; there are {', '.join(u.name for u in self.upkeep)}.")
        body = await _body(request, UpkeepBody)
        if body.seconds is not None:
            found[0].seconds = body.seconds
        if body.on is not None:
            await (found[0].start() if body.on else found[0].stop())
        return await self.show_upkeep(request)

    def _rendered(self, environment: StoredEnvironment) -> dict[str, Any]:
        rows = self.registry.containers(environment.site, environment.environment)
        rendered: dict[str, Any] = msgspec.to_builtins(environment)
        rendered["goal"] = {"containers": rendered.pop("containers"), "standby": rendered.pop("standby")}
        rendered["containers"] = [self._rendered_container(row.id) for row in rows]
        return rendered

    def _rendered_container(self, container_id: str) -> dict[str, Any]:
        """The registry's record of a container, and whether it really listens."""
        rendered: dict[str, Any] = msgspec.to_builtins(self.registry.container(container_id))
        return {**rendered, "listening": self.fleet[container_id].listening}


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["site"], request.match_info["environment"]


async def _body(request: web.Request, kind: type[Body]) -> Body:
    """Decode the JSON body into this type; an empty body counts as {}. Raises msgspec.DecodeError."""
    return msgspec.json.decode(await request.read() or b"{}", type=kind)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)
