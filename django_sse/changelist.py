"""The admin's list of events, fast in a log of any length: nothing here counts, sorts or compares the whole table.

One query reads at most ``LISTED`` keys in the order of an index, and tells how many there are and which rows a page
has; a second one fetches those rows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db import connections
from django.db.models import F, Q
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from django_sse.conf import settings
from django_sse.models import Event
from django_sse.readable import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.db.models.expressions import OrderBy
    from django.http import HttpRequest

    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator  # generic in its stubs alone

__all__ = ["ChannelFilter", "EventChangeList", "KeyPaginator", "TypeFilter", "search"]

LISTED: Final = 5000
"""Rows that the pages of one list reach; a link leads on to older ones."""
RECENT: Final = 1000
"""Newest events whose channels and types the filters offer."""
CHOICES: Final = 30
"""Values that a filter offers: the most frequent of the recent events."""
SEARCHED: Final = 10_000
"""Newest events that are searched for a part of a text: no index finds those."""


def by_position() -> tuple[OrderBy | str, ...]:
    """Return the newest-first order in which the index of a channel can be read.

    By ``-pk`` a database would sort the whole channel. Events without a position are the newest of all; a database
    that cannot say so in its index (MySQL) does sort.
    """
    if connections[settings.DATABASE].features.supports_order_by_nulls_modifier:
        return F("position").desc(nulls_first=True), "-pk"
    return ("-pk",)


class KeyPaginator(_Paginator):
    """Pages over the first ``LISTED`` rows; reads their keys once, and whole rows for the page alone."""

    @cached_property
    def keys(self) -> list[Any]:
        rows: Any = self.object_list
        return list(rows.values_list("pk", flat=True)[: LISTED + 1])

    @cached_property
    def count(self) -> int:
        return min(len(self.keys), LISTED)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than the pages show."""
        return len(self.keys) > LISTED

    def page(self, number: int | str) -> Page[Any]:
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        keys = self.keys[start : min(start + self.per_page, self.count)]
        rows: Any = self.object_list
        found = rows.model._default_manager.using(rows.db).in_bulk(keys)
        return Page([found[key] for key in keys if key in found], number, self)


class EventChangeList(ChangeList):
    """Newest first, always in the order of an index: by channel, by date, or by insertion."""

    older: str | None = None
    """Query string of the list that goes on where this one is cut."""

    @property
    def newest(self) -> str | None:
        """Query string that leads back from an ``older`` list."""
        if {"id__lt", "position__lt"}.isdisjoint(self.filter_params):
            return None
        return self.get_query_string(remove=["id__lt", "position__lt"])

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        # Columns are not sortable; what ?o= asks for would sort the table.
        if "channel" in self.filter_params:
            return list(by_position())
        if not {"created_at__gte", "created_at__lt"}.isdisjoint(self.filter_params):
            return ["-created_at", "-pk"]
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        paginator: Any = self.paginator
        if not self.multi_page:
            self.result_list = paginator.page(1).object_list  # the keys are there: do not search for them again
        if paginator.is_cut:
            self.older = self._after(paginator.keys[LISTED - 1], self.get_ordering(request, self.queryset)[0])

    def _after(self, last: int, order: object) -> str | None:
        """Return the query string of what follows the row ``last``, where a key alone can say that."""
        if self.query or order == "-created_at":
            return None
        if order == "-pk":
            return self.get_query_string({"id__lt": last})
        position = self.root_queryset.values_list("position", flat=True).filter(pk=last).first()
        return self.get_query_string({"position__lt": position}) if position is not None else None


class RecentFilter(admin.SimpleListFilter):
    """Filters by a column, and offers what the newest events have there: the values of all would be a scan."""

    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        newest = model_admin.get_queryset(request).order_by("-pk").values_list(self.parameter_name, flat=True)
        values = {value for value, _ in Counter(newest[:RECENT]).most_common(CHOICES)}
        if (chosen := self.value()) is not None:
            values.add(chosen)
        return [(value, visible(value)) for value in sorted(values)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(**{self.parameter_name: value}) if self.can_be(value) else queryset.none()

    def can_be(self, value: str) -> bool:
        """Tell whether the column can hold ``value``; some databases refuse to compare it with anything else."""
        return "\x00" not in value


class ChannelFilter(RecentFilter):
    title = _("channel (of the newest events)")
    parameter_name = "channel"

    def can_be(self, value: str) -> bool:
        return super().can_be(value) and value.isascii()


class TypeFilter(RecentFilter):
    title = _("type (of the newest events)")
    parameter_name = "type"


def search(queryset: QuerySet[Event], text: str) -> QuerySet[Event]:
    """Return the events that ``text`` means: see ``EventAdmin.search_help_text``.

    Each way to match is a query of its own, which one index answers; joined by OR they would be a scan.
    """
    if text.isascii() and text.isdecimal():
        return queryset.filter(position=int(text)) if len(text) < 20 else queryset.none()
    newest = Event.objects.using(settings.DATABASE).order_by("-pk").values_list("pk", flat=True)
    oldest = next(iter(newest[SEARCHED - 1 : SEARCHED]), 0)
    part = Q(type__icontains=text) | Q(data__icontains=text)
    ways = [queryset.filter(pk__gte=oldest)]
    if text.isascii():
        part |= Q(channel__icontains=text)
        ways += [queryset.filter(channel=text).order_by(*by_position()), queryset.filter(key=text).order_by()]
    ways[0] = ways[0].filter(part)
    return queryset.filter(pk__in=_newest(ways))


def _newest(ways: Sequence[QuerySet[Event]]) -> list[int]:
    keys = {key for way in ways for key in way.values_list("pk", flat=True)[: LISTED + 1]}
    return sorted(keys, reverse=True)[: LISTED + 1]
