"""Model signals to events, and the signals of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from django_sse.channels import check_channel
from django_sse.publish import send_events
from django_sse.stream import stream_closed, stream_opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from django.db.models import Field

    Action = Literal["created", "updated", "deleted"]

__all__ = ["Broadcast", "broadcast", "stream_closed", "stream_opened"]

M = TypeVar("M", bound=Model)


class Broadcast:
    """The wire from a model to its channel. ``disconnect()`` cuts it."""

    def __init__(
        self,
        model: type[M],
        channel: str | Callable[[M], str | Iterable[str] | None],
        event_type: str | None,
        data: Callable[[M, Action], Any],
        on: Iterable[Action],
    ) -> None:
        self._model = model
        self._channel = channel
        self._event_type = event_type
        self._data = data
        self._on = frozenset(on)
        post_save.connect(self._saved, sender=model, weak=False)
        post_delete.connect(self._deleted, sender=model, weak=False)

    def disconnect(self) -> None:
        """Stop telling. Twice does no harm."""
        post_save.disconnect(self._saved, sender=self._model)
        post_delete.disconnect(self._deleted, sender=self._model)

    def _saved(self, *, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
        if not raw:  # a fixture is being loaded: what it refers to may not be there yet
            self._send(instance, "created" if created else "updated")

    def _deleted(self, *, instance: Any, **kwargs: Any) -> None:
        self._send(instance, "deleted")

    def _send(self, instance: Any, action: Action) -> None:
        if action not in self._on:
            return
        channels = self._channel(instance) if callable(self._channel) else self._channel
        if not channels:
            return
        names = [channels] if isinstance(channels, str) else channels
        data = self._data(instance, action)
        send_events([(name, self._event_type, data) for name in names])


def broadcast(
    model: type[M],
    channel: str | Callable[[M], str | Iterable[str] | None],
    *,
    event_type: str | None = None,
    data: Callable[[M, Action], Any] | None = None,
    fields: Iterable[str] = (),
    on: Iterable[Action] = ("created", "updated", "deleted"),
) -> Broadcast:
    """Tell ``channel`` whenever an instance of ``model`` is saved or deleted; best called in ``AppConfig.ready``.

    ``channel``: a name, or a function of the instance that returns one, several or none.
    ``data``: a function of the instance and of what happened (``"created"``, ``"updated"``, ``"deleted"``) that
    returns a JSON value; without it ``{"action": …, "id": <primary key>}`` and the values of ``fields``.
    ``on``: what to tell. ``event_type``: as for ``send_event``.

    The event belongs to the transaction that saves. Django sends no signal for ``update()`` and ``bulk_create()``:
    call ``send_event`` there. Raises ``InvalidChannel`` for a name that cannot be one, ``ValueError`` for an unknown
    action, ``FieldDoesNotExist`` for an unknown field.
    """
    if isinstance(channel, str):
        check_channel(channel)
    if unknown := set(on) - {"created", "updated", "deleted"}:
        raise ValueError(f"on={sorted(unknown)} is unknown: it takes 'created', 'updated' and 'deleted'.")
    columns = [cast("Field[Any, Any]", model._meta.get_field(name)) for name in fields]

    def describe(instance: M, action: Action) -> dict[str, Any]:
        values = {column.name: column.value_from_object(instance) for column in columns}
        return {"action": action, "id": instance.pk, **values}

    return Broadcast(model, channel, event_type, data or describe, on)
