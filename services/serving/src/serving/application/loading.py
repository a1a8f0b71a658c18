"""Bringing a model up: folder, explicit load, golden question; and keeping up what the routes name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from millrace.failpoints import fp
from serving.application.ports import Installed, ModelRepository, ModelServer, ModelState
from serving.application.world import World
from serving.domain.endpoint import Spec
from serving.domain.package import golden_error
from serving.errors import BadPackage, DamagedPackage, GoldenMismatch, LoadFailed

log = structlog.get_logger(__name__)

_MID_LOAD_SECONDS = 0.05


class Loader:
    """Loads models, one at a time in this process, so that healing and deploying never do the same twice."""

    def __init__(self, server: ModelServer, repository: ModelRepository) -> None:
        self._server = server
        self._repository = repository
        self._lock = asyncio.Lock()

    async def install(self, spec: Spec) -> Installed:
        """Make the version folder of `spec`, whole and verified.

        Raises:
            BadPackage, DamagedPackage: it cannot be served. Unavailable: the object store is away.
        """
        async with self._lock:
            return await self._repository.install(spec)

    async def bring_up(self, installed: Installed) -> float:
        """Load what is installed, ask the golden question, and return the answer's error.

        Raises:
            LoadFailed, GoldenMismatch: it cannot be served. ModelServerAway: nobody can say.
        """
        async with self._lock:
            await self._load(installed)
            await fp("deploy.P5.before")
            error = await self._golden_error(installed)
            await fp("deploy.P5.after")
            return error

    async def restore(self, spec: Spec, *, broken: bool) -> bool:
        """Load what a route names and the server lost; return whether there was something to do.

        The golden question was answered before the route was made; the folder is verified, or fetched again. A broken
        model is unloaded first: loading again what is loaded and unchanged does nothing.
        """
        async with self._lock:
            if broken:
                await self._server.unload(spec.backend)
            elif _is_ready(await self._server.index(), spec.backend):
                return False
            await self._repository.install(spec)
            await self._server.load(spec.backend)
            return True

    async def take_down(self, backend: str) -> None:
        """Unload a model and remove its folder."""
        async with self._lock:
            await fp("deploy.P8.before")
            await self._server.unload(backend)
            await fp("deploy.P8.after")
            await self._repository.remove(backend)

    async def _load(self, installed: Installed) -> None:
        await fp("deploy.P4.before")
        if installed.fresh or not _is_ready(await self._server.index(), installed.backend):
            load = asyncio.create_task(self._server.load(installed.backend))
            try:
                await asyncio.wait({load}, timeout=_MID_LOAD_SECONDS)
                await fp("deploy.P4.during")
                await load
            finally:
                load.cancel()
        await fp("deploy.P4.after")

    async def _golden_error(self, installed: Installed) -> float:
        golden = installed.golden
        answer = await self._server.ask(installed.backend, installed.signature, golden)
        error = golden_error(golden, answer)
        if error > golden.tolerance:
            raise GoldenMismatch(f"the golden answer differs by {error:g}, allowed is {golden.tolerance:g}")
        return error


def _is_ready(index: Mapping[str, ModelState], backend: str) -> bool:
    state = index.get(backend)
    return state is not None and state.ready


async def keep_up(world: World, loader: Loader, server: ModelServer) -> None:
    """Observe the model server, and load again what the routes name and it does not have.

    Triton forgets explicit loads when it restarts. Every serving process does this for its own server, without a
    lease and without the database: loading what is routed is idempotent.

    Raises:
        ModelServerAway: there is nothing to load into.
    """
    await world.read_server(server)
    lost = [spec for spec in world.routed() if not world.ready(spec.backend)]
    for spec in lost:
        try:
            restored = await loader.restore(spec, broken=spec.backend in world.broken)
            world.broken.discard(spec.backend)
            if restored:
                log.warning("a routed model was loaded again", backend=spec.backend, deployment=spec.deployment)
        except (BadPackage, DamagedPackage, LoadFailed) as error:
            log.warning("a routed model cannot be loaded again", backend=spec.backend, reason=error.message)
    if lost:
        await world.read_server(server)
