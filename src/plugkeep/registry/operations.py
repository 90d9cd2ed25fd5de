"""Starting and stopping some plugins, as parts of an operation that has its turn."""

from __future__ import annotations

from plugkeep.errors import PluginError, RequiredError
from plugkeep.lifecycle import UP
from plugkeep.order import Frontier, closure, start_order
from plugkeep.registry.campaign import abandoned, run_apart, run_one
from plugkeep.registry.directory import Directory
from plugkeep.registry.ledger import START, STOP, Entry, Step
from plugkeep.registry.outcomes import raise_for
from plugkeep.registry.turns import Operation


class Operations(Directory):
    """What the forms of a `Registry` have in common."""

    def _start(
        self, order: list[str], operation: Operation, workers: int | None = None
    ) -> list[PluginError]:
        entries = self._not_up(order)
        errors: list[PluginError] = []
        if workers is not None:
            agenda = self._agenda(START, entries)
            errors = run_apart(self._ledger, START, agenda, operation, workers)
        else:
            for entry in entries:
                if operation.halted:
                    break
                run_one(self._ledger, START, entry, operation, errors)
        return errors + self._not_attempted(operation, entries, errors)

    def _step(self, step: Step, entries: list[Entry], operation: Operation) -> list[PluginError]:
        # On threads of their own, so that whoever is in a hurry can have them given up.
        if step is START:
            return self._start([entry.name for entry in entries], operation, self.workers or 1)
        return run_apart(self._ledger, step, self._agenda(step, entries), operation)

    def _stop(self, entries: list[Entry], operation: Operation) -> list[PluginError]:
        errors: list[PluginError] = []
        for entry in entries:
            run_one(self._ledger, STOP, entry, operation, errors)
        return errors

    async def _arun(
        self, step: Step, entries: list[Entry], operation: Operation, workers: int = 1
    ) -> list[PluginError]:
        from plugkeep.registry import aio

        agenda = self._agenda(step, entries)
        errors = await aio.run(self._ledger, step, agenda, operation, workers)
        return errors + self._not_attempted(operation, entries, errors)

    def _agenda(self, step: Step, entries: list[Entry]) -> Frontier:
        return Frontier({e.name: e.requires if step is START else () for e in entries})

    def _not_up(self, names: list[str]) -> list[Entry]:
        entries = map(self._ledger.entries.get, names)
        return [entry for entry in entries if entry is not None and entry.state not in UP]

    def _not_attempted(
        self, operation: Operation, entries: list[Entry], errors: list[PluginError]
    ) -> list[PluginError]:
        if not operation.halted:
            return []
        reported = {error.plugin for error in errors}
        return abandoned([e.name for e in entries if e.state not in UP and e.name not in reported])

    def _needed_by(self, name: str) -> list[str]:
        self._ledger.find(name)
        requirements = self._ledger.requirements()
        needed = closure(name, requirements)
        return start_order({each: requirements[each] for each in requirements if each in needed})

    def _needing(self, name: str) -> list[Entry]:
        self._ledger.find(name)
        running = {entry.name: entry for entry in self._ledger.to_stop()}
        dependents: dict[str, list[str]] = {}
        for entry in running.values():
            for requirement in entry.requires:
                dependents.setdefault(requirement, []).append(entry.name)
        needing = closure(name, dependents)
        return [entry for each, entry in running.items() if each in needing][::-1]

    def _refuse_while_required(self, entry: Entry) -> None:
        if entry.state not in UP:
            return
        users = tuple(
            each
            for each in self._ledger.dependents(entry.name)
            if self._ledger.find(each).state in UP
        )
        if users:
            raise RequiredError(
                f"plugin {entry.name!r} cannot be unregistered while running plugins require it: "
                f"{', '.join(users)}; stop them first",
                plugin=entry.name,
                dependents=users,
            )

    def _finish_unregister(self, entry: Entry, errors: list[PluginError]) -> None:
        self._ledger.remove(entry)
        raise_for(entry.name, errors)
