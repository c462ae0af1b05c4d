"""The workers of a cluster: who they are, and how work is given to them and waited for."""

import contextlib
import itertools
import secrets
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastmf.errors import ParameterError, ResourceError, brief, counted

INSTALL = "pip install distributed"
ANSWER = 10.0  # seconds to wait for a scheduler
POLL = 0.5  # seconds between looks at the workers
ALONE = 60.0  # seconds to wait for a worker if there is none
FETCHED = 5.0  # seconds to wait for a result between two looks at the workers
SETTLED = 5.0  # seconds to wait for tasks whose results nobody needs
PATIENCE = 1800.0  # seconds to wait if nothing gets done


@contextlib.contextmanager
def connected(cluster: Any) -> Iterator["Workers"]:
    """Yield the workers of a cluster: a Dask client, the address of a scheduler, or "local" for some on this machine.

    "local:3" starts three workers; "local" one for each core. They and connections made here end with the block.

    Raises
    ------
    ParameterError
        If it is none of these, or distributed is not installed.
    ResourceError
        If there is no scheduler at the address, or it has no workers.
    """
    try:
        import distributed
    except ImportError:
        raise ParameterError(f"cluster needs the package distributed, which is not installed: {INSTALL}") from None
    with contextlib.ExitStack() as stack:
        if isinstance(cluster, distributed.Client):
            client = cluster
        elif isinstance(cluster, str) and cluster.partition(":")[0] == "local":
            local = stack.enter_context(distributed.LocalCluster(**_local(cluster), dashboard_address=":0"))
            client = stack.enter_context(distributed.Client(local))
        elif isinstance(cluster, str):
            try:
                client = stack.enter_context(distributed.Client(cluster, timeout=ANSWER, set_as_default=False))
            except (OSError, ValueError, TimeoutError) as error:
                raise ResourceError(f"no scheduler answers at {cluster} ({error}): is `dask scheduler` up?") from None
        else:
            raise ParameterError(
                f"cluster is {brief(cluster)}: give a Dask client, the address of a scheduler, or 'local'"
            )
        workers = Workers(client)
        workers.require_alike()
        try:
            yield workers
        finally:
            workers.leave()


def _local(cluster: str) -> dict[str, Any]:
    """Return how many workers to start, each with one thread."""
    _, colon, number = cluster.partition(":")
    if colon and (not number.isdecimal() or int(number) < 1):
        raise ParameterError(f"cluster is {cluster!r}: give local:N for N workers on this machine")
    from fastmf.runtime.threads import max_threads

    return {"n_workers": int(number) if colon else max_threads(), "threads_per_worker": 1, "memory_limit": None}


class Workers:
    """The workers of a client, and the tasks of one fit, whose keys begin alike."""

    def __init__(self, client: Any) -> None:
        self.client, self.run, self.numbers = client, f"fastmf-{secrets.token_hex(4)}", itertools.count()
        self.begun: dict[str, Any] = {}
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()  # an error may refer to futures that were let go
        self.scheduler, self.addresses = client.scheduler.address, list[str]()
        self.look()

    def look(self) -> None:
        """Note which workers there are; wait for one if there is none."""
        since = time.monotonic()
        while not (found := self._states()):
            if time.monotonic() - since > ALONE:
                raise ResourceError(
                    f"the scheduler has had no workers for {ALONE:.0f} s: start some (dask worker ADDRESS); a fit with"
                    " a checkpoint goes on with --resume (resume=True)"
                )
            time.sleep(POLL)
        self.addresses = sorted(found)

    def _states(self) -> dict[str, str]:
        """Return the states of workers by address."""
        try:
            known = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError, KeyError):  # there is nothing to say of workers while there is no connection
            self._require_scheduler()
            return {}
        return {address: about.get("status", "running") for address, about in known.items()}

    def have_changed(self) -> bool:
        """Look whether workers have come or gone."""
        before = self.addresses
        self.look()
        return before != self.addresses

    def are_here(self) -> bool:
        """Check whether all workers are on this machine."""
        import platform

        return set(self.client.run(platform.node, on_error="ignore").values()) == {platform.node()}

    def require_alike(self) -> None:
        """Raise a ParameterError if workers have another fastmf; warn if their processors differ."""
        own, found = _about(), self.client.run(_about, on_error="ignore")
        other = next((address for address, about in found.items() if about[0] != own[0]), None)
        if other is not None:
            raise ParameterError(
                f"worker {other} has fastmf {found[other][0]}, this process {own[0]}: install the same version"
            )
        if len({about[1] for about in found.values()}) > 1:
            warnings.warn(
                "the workers have different processors: the last digits may differ from those of another run",
                stacklevel=4,
            )

    def owner(self, block: int, n_blocks: int) -> str:
        """Return the address of the worker that a block belongs to."""
        return self.addresses[block * len(self.addresses) // n_blocks]

    def submit(self, do: Callable[..., Any], *args: Any, on: str | None = None) -> Any:
        """Begin a task; ``on`` a worker, if it is there. Returns a future."""
        key = f"{self.run}-{do.__name__}-{next(self.numbers)}"
        where = {} if on is None else {"workers": [on], "allow_other_workers": True}
        self.begun[key] = future = self.client.submit(do, *args, key=key, pure=False, retries=0, **where)
        self.alive.add(future)
        return future

    def forget(self, *futures: Any) -> None:
        """Let results go."""
        for future in futures:
            self.begun.pop(future.key, None)

    def settle(self, futures: Sequence[Any]) -> None:
        """Wait a little for tasks to end, however they do."""
        import distributed

        with contextlib.suppress(TimeoutError), self.client.as_current():
            distributed.wait(futures, timeout=SETTLED)

    def results(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for results, and let them go.

        Raises
        ------
        ResourceError
            If the scheduler or all workers are gone, or nothing has been done for long; it names workers that are
            paused.
        """
        from distributed.client import FutureCancelledError, FuturesCancelledError

        try:
            found = self._awaited(futures)
        except (FutureCancelledError, FuturesCancelledError):
            self._require_scheduler()
            raise
        self.forget(*futures)
        return found

    def _awaited(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for results; raise the first error at once, and a ResourceError if they do not come."""
        import distributed

        pending, since = set(futures), time.monotonic()
        while pending:
            try:
                with self.client.as_current():
                    done, pending = distributed.wait(pending, timeout=POLL, return_when="FIRST_COMPLETED")
            except TimeoutError:
                self._require_progress(time.monotonic() - since, len(pending))
                continue
            since = time.monotonic()
            for future in done:
                if future.status != "finished":
                    future.result(timeout=POLL)  # raises the error
        return [self._fetched(future) for future in futures]

    def _fetched(self, future: Any) -> Any:
        """Return the result of a task that is done; if it is lost with a worker, wait until it is made again."""
        since = time.monotonic()
        while True:
            try:
                return future.result(timeout=FETCHED)
            except TimeoutError:
                self._require_progress(time.monotonic() - since, 1)

    def _require_scheduler(self) -> None:
        """Raise a ResourceError if the scheduler is gone, which cancels all tasks."""
        if self.client.status != "running":
            raise ResourceError(
                f"the scheduler at {self.scheduler} is gone: start it and its workers again; a fit with"
                " a checkpoint goes on with --resume (resume=True)"
            ) from None

    def _require_progress(self, idle: float, n_tasks: int) -> None:
        if not (states := self._states()):
            self.look()
        odd = sorted(address for address, state in states.items() if state != "running")
        if idle > PATIENCE:
            are = f"; {counted(len(odd), 'worker')} not running, the first {odd[0]} ({states[odd[0]]})" if odd else ""
            raise ResourceError(
                f"{counted(n_tasks, 'task')} made no progress for {idle:,.0f} s{are}: give the workers more memory, or"
                " start more; a fit with a checkpoint goes on with --resume (resume=True)"
            )

    def map(self, do: Callable[..., Any], calls: Iterable[Sequence[Any]], n_blocks: int | None = None) -> list[Any]:
        """Call a function for each tuple of arguments, and return the results; the n-th on the owner of block n."""
        calls = list(calls)
        n = n_blocks or len(calls)
        return self.results([self.submit(do, *args, on=self.owner(block, n)) for block, args in enumerate(calls)])

    def leave(self) -> None:
        """Cancel what is left of the tasks."""
        with contextlib.suppress(Exception):
            left = list(self.alive)
            self.client.cancel(left, force=True)
            for future in left:
                future.release()
        self.begun.clear()


def _about() -> tuple[str, str]:
    """Return the version of fastmf, and what the processor here can do."""
    import platform

    import fastmf
    from fastmf.kernels import vectors

    return fastmf.__version__, f"{platform.machine()} {vectors.WIDTH} {sorted(vectors.features())}"
