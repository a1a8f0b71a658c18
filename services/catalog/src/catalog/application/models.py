"""Models: registering a version that a run made, and letting aliases name versions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.causes import cause_of
from catalog.application.lake import Lake
from catalog.application.ports import Documents, Transact, Unit
from catalog.application.runs import find_run
from catalog.domain.models import Model, ModelVersion, PackageFile, model_id, model_version_id
from catalog.domain.records import edge
from catalog.domain.runs import Run
from catalog.errors import ContentMismatch, ModelNotFound, ObjectMissing
from millrace.clock import Clock
from millrace.errors import Conflict
from millrace.events import ModelPromoted, ModelRegistered
from millrace.failpoints import fp
from millrace.packages import package_digest, package_prefix

MAX_HASHED = 64 * 1024 * 1024
"""Largest package file whose bytes are read and hashed at registration; of larger ones the size is checked."""


@dataclass(frozen=True)
class RegisterModel:
    """The package that a run made, and what is known about it."""

    model: str
    run: str
    fence: int
    digest: str
    uri: str
    files: tuple[PackageFile, ...]
    framework: str
    dataset: str
    version: int
    commit: str
    signature: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    reference: str | None = None

    def prefix(self, project: str) -> str:
        """Return the key prefix of the package."""
        return package_prefix(project, self.digest)


def digest_of(files: tuple[PackageFile, ...]) -> str:
    """Return the digest that names a package of these files."""
    return package_digest((file.path, file.digest, file.size) for file in files)


async def register_model(
    cmd: RegisterModel, caller: Caller, *, documents: Documents, transact: Transact, lake: Lake, clock: Clock
) -> Reply:
    """Check the package, then allocate the next version and announce it. A run registers once per model."""
    run = await find_run(caller.project, cmd.run, documents=documents)
    if (known := await _registered(cmd, caller, documents)) is not None:
        return known
    run.under(cmd.fence)
    if (run.dataset, run.version, run.commit) != (cmd.dataset, cmd.version, cmd.commit):
        raise ContentMismatch(f"run {run.id} trained on {run.dataset}@{run.version}", commit=run.commit)
    await fp("register.R2.before")
    await _check_package(cmd, caller.project, lake)
    await fp("register.R3.after")

    async def work(uow: Unit) -> Reply:
        return await _register(cmd, caller, uow=uow, clock=clock)

    await fp("register.R5.before")
    reply = await transact(work)
    await fp("register.R5.after")
    return reply


async def _registered(cmd: RegisterModel, caller: Caller, documents: Documents) -> Reply | None:
    where = {"project": caller.project, "model": cmd.model, "run": cmd.run}
    found = await documents.model_versions.find(where, limit=1)
    if not found:
        return None
    if found[0].digest != cmd.digest:
        raise Conflict(f"run {cmd.run} registered another package as {cmd.model}@{found[0].version}")
    return Reply(200, views.model_version(found[0], []))


async def _check_package(cmd: RegisterModel, project: str, lake: Lake) -> None:
    if digest_of(cmd.files) != cmd.digest:
        raise ContentMismatch("the digest is not that of the file list")
    for file in cmd.files:
        key = f"{cmd.prefix(project)}/{file.path}"
        size = await lake.size_of(key)
        if size is None:
            raise ObjectMissing(f"{file.path} of the package is not in the lake", key=key)
        if size != file.size or (size <= MAX_HASHED and await lake.digest_of(key) != file.digest):
            raise ContentMismatch(f"{file.path} of the package is not what the file list says", key=key)
    if cmd.reference is not None:
        outside = not cmd.reference.startswith(f"{project}/")
        if outside or await lake.size_of(cmd.reference) is None:
            raise ObjectMissing("the drift reference is not in the lake", key=cmd.reference)


async def _register(cmd: RegisterModel, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    if (known := await _registered(cmd, caller, uow)) is not None:
        return known
    run = (await find_run(caller.project, cmd.run, documents=uow)).under(cmd.fence)
    model = await _next(cmd.model, caller.project, uow, clock)
    await fp("register.R4.after")
    version = ModelVersion(
        id=model_version_id(caller.project, cmd.model, model.latest),
        project=caller.project,
        model=cmd.model,
        version=model.latest,
        run=cmd.run,
        digest=cmd.digest,
        prefix=cmd.prefix(caller.project),
        uri=cmd.uri,
        files=cmd.files,
        framework=cmd.framework,
        signature=cmd.signature,
        metrics=cmd.metrics,
        dataset=cmd.dataset,
        dataset_version=cmd.version,
        commit=cmd.commit,
        reference=cmd.reference,
        created_by=caller.principal,
        created_at=clock.now(),
    )
    await uow.model_versions.add(version)
    await uow.runs.save(replace(run, model_version=version.version))
    await uow.edges.add(edge(caller.project, f"run:{run.id}", "made", f"model:{cmd.model}@{version.version}"))
    await _announce(version, model, run, caller, uow)
    return Reply(201, views.model_version(version, []))


async def _next(name: str, project: str, uow: Unit, clock: Clock) -> Model:
    model = await uow.models.get(model_id(project, name))
    if model is not None:
        return await uow.models.save(model.next_version())
    model = Model(id=model_id(project, name), project=project, name=name, created_at=clock.now(), revision=1, latest=1)
    await uow.models.add(model)
    return model


async def _announce(version: ModelVersion, model: Model, run: Run, caller: Caller, uow: Unit) -> None:
    uow.emit(
        ModelRegistered(
            model=version.model,
            version=version.version,
            digest=version.digest,
            prefix=version.prefix,
            run=version.run,
            dataset=version.dataset,
            dataset_version=version.dataset_version,
            commit=version.commit,
            framework=version.framework,
            metrics=version.metrics,
            reference=version.reference,
        ),
        project=version.project,
        subject=version.model,
        sequence=model.revision,
        cause=await cause_of(uow, caller.causation, run.event),
        principal=caller.principal,
        correlation=run.correlation or None,
    )
    resource = f"model:{version.model}@{version.version}"
    detail = {"run": version.run, "digest": version.digest}
    uow.audit(caller.principal, "model.register", resource, version.project, detail)


async def name_version(name: str, alias: str, reference: str, caller: Caller, *, uow: Unit) -> Reply:
    """Let an alias name a version, and say so."""
    model = await find_model(caller.project, name, documents=uow)
    number = model.resolve(reference)
    previous = model.aliases.get(alias)
    if previous == number:
        return Reply(200, views.model(model))
    model = await uow.models.save(model.named(alias, number))
    uow.emit(
        ModelPromoted(model=name, version=number, alias=alias, previous=previous),
        project=caller.project,
        subject=name,
        sequence=model.revision,
        principal=caller.principal,
        correlation=caller.correlation,
    )
    detail = {"alias": alias, "version": number, "previous": previous}
    uow.audit(caller.principal, "model.promote", f"model:{name}", caller.project, detail)
    return Reply(200, views.model(model))


async def find_model(project: str, name: str, *, documents: Documents) -> Model:
    """Return a model.

    Raises:
        ModelNotFound: there is none of that name in the project.
    """
    model = await documents.models.get(model_id(project, name))
    if model is None:
        raise ModelNotFound(f"no model {name}")
    return model


async def find_model_version(project: str, name: str, reference: str, *, documents: Documents) -> ModelVersion:
    """Return the version that a number, an alias or `latest` means.

    Raises:
        NotFound: there is none.
    """
    model = await find_model(project, name, documents=documents)
    number = model.resolve(reference)
    version = await documents.model_versions.get(model_version_id(project, name, number))
    if version is None:
        raise ModelNotFound(f"no version {number} of model {name}")
    return version
