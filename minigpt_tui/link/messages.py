"""What viewers and a trainer say to each other, as msgpack: typed, bounded, and checked before anybody acts on it."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import replace
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from minigpt_core import frame_bytes
from minigpt_core.config import SampleConfig
from minigpt_core.errors import UserError
from minigpt_core.frame import Frame, HeadHistory, RecordedSample
from minigpt_core.generation import FinishReason
from minigpt_core.ladder import Ladder
from minigpt_core.status import (
    Envelope,
    Event,
    Note,
    Pause,
    Piece,
    Reading,
    Resume,
    Save,
    ScaleLearningRate,
    SetEvalEvery,
    SetSampleEvery,
    Stamp,
    Status,
    StepOnce,
    Stop,
)

PROTOCOL = 1
"""Of what is said here; viewer and trainer must agree."""
MAX_REQUEST = 2**18
"""Bytes of what a viewer says at a time."""
MAX_NEWS = 2**27
"""Bytes of what a trainer says at a time: a frame of a large model."""

Text = Annotated[str, Meta(max_length=MAX_REQUEST)]
Number = Annotated[int, Meta(ge=0, lt=2**31)]
Step = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Obeyed = Pause | Resume | StepOnce | Save | ScaleLearningRate | SetEvalEvery | SetSampleEvery | Note | Stop


class MalformedError(Exception):
    """What came over the link is no message of this protocol."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class name is the tag on the wire."""


# --- what a viewer may ask of the past, where it cannot read the run's directory ---


class SeriesOf(Message, frozen=True):
    """A metric between two steps, smoothed by β where it is the smoothed loss."""

    metric: Text
    lo: Step | None
    hi: Step | None
    buckets: Annotated[int, Meta(ge=1, le=10_000)]
    beta: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class EventsFrom(Message, frozen=True):
    first: Number


class RecordedSteps(Message, frozen=True):
    pass


class Heads(Message, frozen=True):
    pass


class LadderOf(Message, frozen=True):
    pass


class Speakers(Message, frozen=True):
    pass


class Excerpt(Message, frozen=True):
    number: Number


Question = SeriesOf | EventsFrom | RecordedSteps | Heads | LadderOf | Speakers | Excerpt


# --- from a viewer ---


class Do(Message, frozen=True):
    command: Obeyed


class Prompt(Message, frozen=True):
    """Sample from the weights of this moment; the answer's pieces carry the number."""

    number: Number
    prompt: Text
    config: SampleConfig
    shown: Text | None = None


class Cancel(Message, frozen=True):
    number: Number


class Watch(Message, frozen=True):
    text: Text | None


class Look(Message, frozen=True):
    """Whether frames are wanted from now on; a step is the recorded one nearest to it, None the present."""

    wanted: bool
    step: Step | None = None


class Ask(Message, frozen=True):
    number: Number
    question: Question


Request = Do | Prompt | Cancel | Watch | Look | Ask


# --- from the trainer ---


class Welcome(Message, frozen=True):
    """Said first."""

    protocol: int
    run: str
    """The run's directory on the trainer's machine."""
    host: str
    pid: int


class News(Message, frozen=True):
    """The run at one moment."""

    status: Status
    reading: Reading
    failure: str | None
    """Why the last look at the weights brought no frame."""


class Pieces(Message, frozen=True):
    """What an answer brought since the last time. `reason` is set once nothing more will come."""

    number: int
    pieces: list[Piece]
    n_tokens: int
    stamp: Stamp | None
    warnings: tuple[str, ...]
    reason: FinishReason | None
    error: str | None


class Picture(Message, frozen=True):
    """A frame, packed as the recording packs it: attention and lens a little coarser than they are."""

    stamp: str
    scores: bytes
    rest: bytes
    attention: bytes
    tokens: tuple[str, ...]
    labels: dict[int, str]
    past: bool
    """It is the recorded one that was asked for."""
    sample: tuple[int, str, str] | None
    """What the model wrote then: step, prompt, text."""


class Array(Message, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Envelopes(Message, frozen=True):
    """The five columns of an envelope."""

    columns: tuple[Array, ...]


class Events(Message, frozen=True):
    events: list[Event]


class HeadScores(Message, frozen=True):
    steps: Array
    scores: Array


class Found(Message, frozen=True):
    """Plain values: an excerpt, the speakers, the ladder."""

    text: str | None = None
    names: tuple[str, ...] = ()
    ladder: Ladder | None = None


class Answer(Message, frozen=True):
    number: int
    value: Envelopes | Events | HeadScores | Array | Found | None


Reply = Welcome | News | Pieces | Picture | Answer

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
BROKEN = (msgspec.DecodeError, UserError, ValueError, TypeError, OverflowError, RecursionError, KeyError, zlib.error)
"""What bytes that anybody may have written can raise."""


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def encode_request(request: Request) -> bytes:
    """What a viewer says, as every trainer takes it.

    Raises:
        UserError: it is out of bounds, so that saying it would end the connection.
    """
    data = encode(request)
    if len(data) > MAX_REQUEST:
        raise UserError(f"is too long to be sent: {len(data):,} bytes, at most {MAX_REQUEST:,} are taken")
    try:
        read_request(data)
    except MalformedError as error:
        raise UserError(f"cannot be sent: {error}") from None
    return data


def read_request(data: bytes | str) -> Request:
    """What a viewer said.

    Raises:
        MalformedError: it is no request.
    """
    return _read(_requests, data)


def read_reply(data: bytes | str) -> Reply:
    """What a trainer said.

    Raises:
        MalformedError: it is no reply.
    """
    return _read(_replies, data)


def _read(decoder: msgspec.msgpack.Decoder[Any], data: bytes | str) -> Any:
    if isinstance(data, str):
        raise MalformedError("text instead of bytes")
    try:
        return decoder.decode(data)
    except BROKEN as error:
        raise MalformedError(str(error)) from None


# --- arrays and frames ---


def pack_array(array: np.ndarray) -> Array:
    return Array(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())


def read_array(array: Array) -> np.ndarray:
    """The array, read-only.

    Raises:
        MalformedError: its bytes do not fill its shape, or are no numbers.
    """
    try:
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "biuf" or math.prod(array.shape) * dtype.itemsize != len(array.data):
            raise MalformedError("not an array")
        return np.frombuffer(array.data, dtype).reshape(array.shape)
    except BROKEN as error:
        raise MalformedError(str(error)) from None


def pack_envelope(envelope: Envelope) -> Envelopes:
    columns = (envelope.step, envelope.low, envelope.high, envelope.mean, envelope.broken)
    return Envelopes(tuple(map(pack_array, columns)))


def read_envelope(value: Envelopes) -> Envelope:
    """Raises MalformedError."""
    columns = [read_array(column) for column in value.columns]
    if len(columns) != 5 or len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        raise MalformedError("not an envelope")
    return Envelope(*columns)


def pack_heads(history: HeadHistory) -> HeadScores:
    return HeadScores(pack_array(history.steps), pack_array(history.scores))


def read_heads(value: HeadScores) -> HeadHistory:
    """Raises MalformedError."""
    steps, scores = read_array(value.steps), read_array(value.scores)
    if steps.ndim != 1 or scores.ndim != 4 or len(steps) != len(scores) or scores.shape[1] != 4:
        raise MalformedError("not the scores of heads")
    return HeadHistory(steps, scores)


def read_answer(answer: Answer) -> Envelope | HeadHistory | np.ndarray | Events | Found | None:
    """What an answer holds; the only array by itself is that of the recorded steps.

    Raises:
        MalformedError: it does not hold what it says.
    """
    match answer.value:
        case Envelopes() as value:
            return read_envelope(value)
        case HeadScores() as value:
            return read_heads(value)
        case Array() as value:
            steps = read_array(value)
            if steps.ndim != 1 or steps.dtype != np.int64:
                raise MalformedError("not steps")
            return steps
    return answer.value


def pack_frame(frame: Frame, past: bool, sample: RecordedSample | None) -> Picture:
    """Takes tens of milliseconds for a large model: not for a thread that others wait for."""
    stamp, scores, rest, attention = frame_bytes.pack(frame)
    wrote = None if sample is None else (sample.step, sample.prompt, sample.text)
    return Picture(json.dumps(stamp), scores, rest, attention, frame.tokens, frame.lens_labels, past, wrote)


def read_frame(picture: Picture) -> Frame:
    """Raises MalformedError."""
    try:
        stamp = frame_bytes.read_stamp(picture.stamp)
        texts, ids = picture.labels, [0] * len(picture.tokens)  # the texts of the tokens came instead of their ids
        frame = frame_bytes.unpack(
            stamp,
            picture.scores,
            picture.rest,
            picture.attention,
            ids,
            lambda found: tuple(texts.get(i, "") for i in found),
        )
    except BROKEN as error:
        raise MalformedError(str(error)) from None
    return replace(frame, tokens=picture.tokens)
