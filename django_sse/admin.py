"""The log in Django's admin, to be read: what was published, its bytes, and what a client would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.contrib import admin
from django.utils.html import format_html
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_sse import log, wire
from django_sse.changelist import ChannelFilter, EventChangeList, KeyPaginator, TypeFilter, search
from django_sse.conf import settings
from django_sse.control import CONTROL
from django_sse.cursor import parse
from django_sse.exceptions import InvalidField
from django_sse.models import Event
from django_sse.readable import excerpt, lines, pretty, visible
from django_sse.replay import ReplayForm, replay

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    _ModelAdmin = admin.ModelAdmin[Event]
else:
    _ModelAdmin = admin.ModelAdmin  # generic in its stubs alone

__all__ = ["EventAdmin"]

LOOKUPS: Final = frozenset({"channel", "type", "created_at__gte", "created_at__lt", "id__lt", "position__lt"})
"""What the query string of the list may ask for; Django would take any, and ``data__regex`` reads the whole table."""


class Wire(NamedTuple):
    """The bytes of an event, readable; ``problem`` says why they are not the event's own."""

    text: str
    problem: str = ""


@admin.register(Event)
class EventAdmin(_ModelAdmin):
    """Read-only. Django's "Can view event" permission decides who sees it."""

    list_display = ["shown_position", "shown_time", "shown_channel", "shown_type", "shown_key", "shown_excerpt"]
    list_filter = [ChannelFilter, TypeFilter, "created_at"]
    list_per_page = 50
    list_max_show_all = 50
    sortable_by = ()
    actions = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    ordering = ["-pk"]
    paginator = KeyPaginator
    search_fields = ["channel", "key"]  # for the search box to be there; get_search_results says what is searched
    search_help_text = _(
        "A number finds the event at that position. Any other text finds the events whose channel or key is exactly "
        "this and, among the newest 10,000 events alone, those whose channel, type or data contains it."
    )
    readonly_fields = ("shown_position", "exact_time", "shown_channel", "shown_type", "shown_key", "shown_data")
    fields = readonly_fields

    class Media:
        css = {"all": ["django_sse/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        # Django's own would also let in who may change events: here nobody may.
        return request.user.has_perm("django_sse.view_event")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return super().get_queryset(request).using(settings.DATABASE)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        text = search_term.strip()
        return (search(queryset, text) if text else queryset), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in LOOKUPS

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # The template calls it: whoever is refused causes no query.
        return super().changelist_view(request, {"reach": log.reach, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Event | None = None,
    ) -> HttpResponse:
        if obj is not None:
            given = request.GET.dict()
            kept = [(name, value) for name, value in given.items() if name not in ReplayForm.base_fields]
            is_notice = obj.channel == CONTROL and not given  # no client has that channel
            form = ReplayForm(None if is_notice else _where(obj) | given)
            context |= {"wire": _wire(obj), "replay_form": form, "replay_kept": kept}
            if form.is_valid():
                context["replay"] = replay(parse(form.cleaned_data["at"]), form.cleaned_data["channels"])
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("position"))
    def shown_position(self, event: Event) -> str:
        # A text: a number would get a thousands separator.
        return gettext("unnumbered") if event.position is None else str(event.position)

    @admin.display(description=_("created at"))
    def shown_time(self, event: Event) -> str:
        return f"{_local(event.created_at):%Y-%m-%d %H:%M:%S}"  # Django's format has no seconds

    @admin.display(description=_("created at"))
    def exact_time(self, event: Event) -> str:
        return _local(event.created_at).isoformat(sep=" ", timespec="milliseconds")

    @admin.display(description=_("channel"))
    def shown_channel(self, event: Event) -> str:
        return visible(event.channel)

    @admin.display(description=_("type"))
    def shown_type(self, event: Event) -> str:
        return visible(event.type)

    @admin.display(description=_("key"))
    def shown_key(self, event: Event) -> str:
        return self.get_empty_value_display() if event.key is None else visible(event.key)

    @admin.display(description=_("data"))
    def shown_excerpt(self, event: Event) -> str:
        return excerpt(event.data)

    @admin.display(description=_("data"))
    def shown_data(self, event: Event) -> SafeString:
        return format_html('<pre class="sse-text">{}</pre>', pretty(event.data))


def _local(time: datetime) -> datetime:
    return localtime(time) if is_aware(time) else time


def _wire(event: Event) -> Wire:
    if event.channel == CONTROL:
        return Wire("", gettext("It tells the servers whose streams to close. No client is sent it."))
    if event.position is None:
        return Wire("", gettext("It has no position yet, so no client was sent it. The next event or poll numbers it."))
    try:
        return Wire(lines(event.encode()))
    except InvalidField as error:
        told = gettext("This row cannot be an event, so clients are sent a reset in its place: %s")
        return Wire(lines(wire.reset(event.position, "unreadable")), told % visible(str(error)))


def _where(event: Event) -> dict[str, str]:
    """Return the question whose answer begins with ``event``: has it been there for a client just before it?"""
    position = log.reach().head if event.position is None else event.position - 1
    return {"at": str(position), "channels": event.channel}
