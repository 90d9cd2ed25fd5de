"""Serving calls where their methods say, and answering them."""

from __future__ import annotations

from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from plugkeep.channel import workers
from plugkeep.channel.channel import serving
from plugkeep.channel.exposed import misused
from plugkeep.channel.failures import Failure, failure_of
from plugkeep.current import served
from plugkeep.errors import (
    CallCancelledError,
    CallTimeoutError,
    InvalidArgumentsError,
    UnsendableValueError,
)
from plugkeep.runner._calls import Call, nothing, whole
from plugkeep.runner._channel import MOST_HELD
from plugkeep.runner._streams import MainStream, stream_here
from plugkeep.wire.connection import Connection
from plugkeep.wire.events import Request
from plugkeep.wire.messages import Code, PlainAnswer, PlainRequest
from plugkeep.wire.sending import Sending

if TYPE_CHECKING:
    from plugkeep.channel.exposed import ExposedMethod
    from plugkeep.runner._aio import LoopThread
    from plugkeep.runner.runner import Runner


class Refused(Exception):
    """Raised where a call cannot be served; the method itself has not raised anything."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Service:
    """Serves the calls of one runner's host."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loop: LoopThread | None = None

    @property
    def loop(self) -> LoopThread:
        """The event loop, on a thread of its own from now on."""
        if self._loop is None:
            from plugkeep.runner._aio import LoopThread

            self._loop = LoopThread(self._runner)
        return self._loop

    def close(self) -> None:
        """End the event loop, if there is one."""
        if self._loop is not None:
            self._loop.close()

    # --- quick methods, whose turn has come -----------------------------------------------

    def work(self) -> None:  # every call made here costs each call
        """Do what waits for the main thread, one after the other, and answer in few writes."""
        runner, channel = self._runner, self._runner.channel
        connection, queue, hold_plain = runner.connection, channel.queue, channel.held.append
        quick, unwanted, open_calls = runner.quick.get, runner.unwanted, connection.serving
        plain = connection.codec.packer.plain
        for _ in range(min(len(queue), MOST_HELD)):
            if not queue:  # a job has done others meanwhile
                break
            job = queue.popleft()
            if channel.dozing or not channel.is_hot:
                channel.heat()
            if type(job) is not PlainRequest:
                self._do(job)
                continue
            params = job.params
            function, known = quick(job.method, _NONE)
            if (
                function is None
                or unwanted
                or job.deadline_ms is not UNSET
                or (
                    known is not None
                    and (type(params[0]) if len(params) == 1 else tuple(map(type, params)))
                    not in known
                )
            ):
                self._do(job)
                continue
            channel.current = job
            try:
                result = function(*params)
                if type(result) in plain:
                    del open_calls[job.id]
                    hold_plain(PlainAnswer(job.id, result))
                else:
                    channel.hold(connection.answer(job.id, result))
                if unwanted:
                    unwanted.discard(job.id)
            except BaseException as error:
                channel.hold(self.failed(job, error))
        channel.send_held()

    def _do(self, job: Any) -> None:
        """Do what waits for the main thread, in the long way."""
        channel = self._runner.channel
        if type(job) is PlainRequest:
            request = whole(job)
            limit = request.deadline_ms
            is_late = limit is not None and monotonic() >= channel.since + limit / 1000
            channel.hold(self._late(request) if is_late else self._serve_quickly(request))
        elif type(job) is Request:
            channel.hold(self._serve_quickly(job))
        else:
            job()

    def _serve_quickly(self, request: Request) -> Sending:
        """Serve a call of a quick method; return the answer."""
        runner, args, kwargs = self._runner, request.args, request.kwargs
        function, known = runner.quick.get(request.method, _NONE)
        if function is None or request.id in runner.unwanted:
            return self._too_late(request)
        runner.channel.current = request
        try:
            if kwargs or request.buffers or (known is not None and kinds_of(args) not in known):
                bind = runner.methods[request.method].binding.bind
                args, kwargs = _bound(bind, args, kwargs, request.buffers)
            sending = runner.connection.answer(request.id, function(*args, **kwargs))
        except BaseException as error:
            sending = self.failed(request, error)
        if runner.unwanted:
            runner.unwanted.discard(request.id)
        return sending

    def _late(self, request: Request) -> Sending:
        self._runner.unwanted.discard(request.id)
        return self._runner.connection.refuse(request.id, *_time_is_up(request.method))

    def _too_late(self, request: Request) -> Sending:
        """Return the answer to a call that was cancelled while it waited, or stop was faster."""
        runner = self._runner
        if request.id in runner.unwanted:
            runner.unwanted.discard(request.id)
            return runner.connection.refuse(request.id, Code.CANCELLED, "cancelled before it began")
        return runner.connection.refuse(request.id, Code.NOT_RUNNING, ABOUT_TO_STOP)

    def refuse_waiting(self) -> None:
        """Answer the quick calls that have not had their turn: it will not come any more."""
        channel, queue = self._runner.channel, self._runner.queue
        for _ in range(len(queue)):
            job = queue.popleft()
            if type(job) is PlainRequest or type(job) is Request:
                channel.hold(self._too_late(whole(job)))
            else:
                queue.append(job)
        channel.send_held()

    def failed(self, request: Any, error: BaseException) -> Sending:
        """Deal with what a call of a quick method has come to; return what is to be sent."""
        runner = self._runner
        call = runner.current_record(request)
        method = runner.methods[request.method]
        runner.calls[call.id] = call
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        if trace is not None and trace.tb_frame.f_code is _ANSWER:
            # It is no plain value, and may be no value at all, but what gives them by and by.
            self.conclude(call, method, trace.tb_frame.f_locals["result"])
        elif trace is None and isinstance(error, TypeError):
            self.fail(call, method, self._misfit(method, call, error))
        else:
            self.fail(call, method, error)
        return _NOTHING

    def _misfit(self, method: ExposedMethod, call: Call, error: TypeError) -> Exception:
        """Return what is wrong with the arguments, where the method was not even entered."""
        try:
            method.binding.check(call.request.args, call.request.kwargs)
        except InvalidArgumentsError as misfit:
            return Refused(failure_of(misfit))
        return error

    # --- all others -----------------------------------------------------------------------

    def begin(self, call: Call, method: ExposedMethod) -> None:
        """Have a call served where its method says. Called while reading: nothing runs here."""
        if method.place == "main":
            self._runner.channel.on_main(lambda: self._serve_on_main(call, method), call.within)
        elif method.place == "loop":
            self.loop.serve(call, method)
        else:
            workers.run(self.context_of(call).run, self.serve, call, method)

    def _serve_on_main(self, call: Call, method: ExposedMethod) -> None:
        channel = self._runner.channel
        before, channel.current = channel.current, call
        try:
            self.serve(call, method)
        finally:
            channel.current = before

    def context_of(self, call: Call) -> Context:
        """Return a context in which `call` is the one that is being served."""
        context = Context()
        context.run(self.enter, call)
        return context

    def enter(self, call: Call) -> None:
        """Note that, in this context, `call` is the one that is being served."""
        served.set(call)
        serving.set((self._runner.channel, call.id))

    def serve(self, call: Call, method: ExposedMethod) -> None:
        """Serve a call on this thread."""
        try:
            args, kwargs = self.prepare(call, method)
            result = method.function(*args, **kwargs)
        except BaseException as error:
            self.fail(call, method, error)
        else:
            self.conclude(call, method, result)

    def prepare(self, call: Call, method: ExposedMethod) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments. Raises Refused where they do not fit, or it is too late."""
        if (failure := given_up(call)) is not None:
            raise Refused(failure)
        if method.is_stream and not call.wants_stream:
            raise _misused(call)
        request = call.request
        return _bound(method.binding.bind, request.args, request.kwargs, request.buffers)

    def conclude(self, call: Call, method: ExposedMethod, result: Any) -> None:
        """Answer with what a method has returned, on the thread that has called it."""
        if hasattr(result, "__anext__") or hasattr(result, "__await__"):
            self.loop.go_on(call, method, result)
        elif hasattr(result, "__next__") is not call.wants_stream:
            getattr(result, "close", nothing)()
            self.fail(call, method, _misused(call))
        elif not call.wants_stream:
            self.answer(call, method, result)
        elif method.place == "main":
            MainStream(self, call, method, result)
        else:
            stream_here(self, call, method, result)

    # --- answers --------------------------------------------------------------------------

    def answer(self, call: Call, method: ExposedMethod, result: Any) -> None:
        """Answer a call with its result."""
        if not call.is_open:
            return  # it has been answered already, for stop could wait no longer
        try:
            sending = self._runner.connection.answer(call.id, result)
        except UnsendableValueError as error:
            self.fail(call, method, Refused(failure_of(error)))
        else:
            self.end(call, sending)

    def send_value(self, call: Call, value: Any) -> None:
        """Send the next value of a stream, for which there is credit."""
        try:
            sending = self._runner.connection.chunk(call.id, value)
        except UnsendableValueError as error:
            raise Refused(failure_of(error)) from None
        call.send(sending)

    def fail(self, call: Call, method: ExposedMethod, error: BaseException) -> None:
        """Answer a call with what its method has come to."""
        if not call.is_open:
            return
        if isinstance(error, Refused):
            failure = error.failure
        elif isinstance(error, (CallCancelledError, CallTimeoutError)):
            failure = given_up(call) or method.failure(error)
        else:
            failure = method.failure(error)
        self.end(call, self._runner.connection.refuse(call.id, *failure))

    def end(self, call: Call, sending: Sending) -> None:
        """Send the answer to a call, which is over with that."""
        self._runner.calls.pop(call.id, None)
        self._runner.unwanted.discard(call.id)
        call.send(sending)
        if self._runner.is_stopping:  # and waits for the last of them
            self._runner.life.look()


def kinds_of(args: list[Any]) -> Any:
    """Return what a `Binding` knows arguments by."""
    return type(args[0]) if len(args) == 1 else tuple(map(type, args))


def given_up(call: Call) -> Failure | None:
    """Return what is to be answered where nobody waits for the call any more."""
    if call.id in call.runner.unwanted:
        return Failure(Code.CANCELLED, f"the call of {call.name!r} was cancelled", UNSET)
    if call.remaining == 0.0:
        return _time_is_up(call.name)
    if call.cancelled:
        return Failure(Code.NOT_RUNNING, ABOUT_TO_STOP, UNSET)
    return None


def _time_is_up(method: str) -> Failure:
    return Failure(Code.DEADLINE_PASSED, f"the time for {method!r} is up", UNSET)


def _bound(bind: Any, args: Any, kwargs: Any, buffers: Any) -> tuple[list[Any], dict[str, Any]]:
    try:
        return bind(args, kwargs, buffers)  # type: ignore[no-any-return]
    except InvalidArgumentsError as error:
        raise Refused(failure_of(error)) from None


def _misused(call: Call) -> Refused:
    return Refused(failure_of(misused(is_stream=not call.wants_stream)))


ABOUT_TO_STOP: Final = "the plugin is about to stop"
_ANSWER: Final = Connection.answer.__code__
_NOTHING: Final[Sending] = (b"", ())
_NONE: Final = (None, None)
