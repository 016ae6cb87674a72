from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asgiref.sync import sync_to_async
from django.http import Http404, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from demo_project.answer import done
from demo_project.ask import answers, model
from demo_project.ask.answers import LENGTHS, Question
from django_sse.tokens import stop_tokens, tokens_since
from django_sse.upstream import UpstreamError
from django_sse.views import EventStreamView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest, HttpResponse

__all__ = ["Answer", "ask", "begin", "stop", "whole"]

_LONGEST: Final = 300
_SAMPLE: Final = "What happens to a browser that was away?"


@require_safe
def ask(request: HttpRequest, id: str | None = None) -> HttpResponse:
    context = {"lengths": LENGTHS, "model": model.describe(), "longest": _LONGEST, "sample": _SAMPLE}
    if id is not None:
        question = _find(request, id)
        # Where the text begins, however far it is: a reload reads it from there.
        context |= {"question": question, "since": tokens_since(question.channel)}
    return render(request, "ask.html", context)


@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    text = request.POST.get("question", "").strip()[:_LONGEST] or _SAMPLE
    length = request.POST.get("length", "")
    question = Question(text, length if length in LENGTHS else "short")
    answers.begin(request.session, question)
    return redirect("ask-answer", question.id)


class Answer(EventStreamView):
    """The stream of one answer, for the visitor who asked."""

    def get_channels(self, request: HttpRequest) -> Iterable[str]:
        question = answers.find(request.session, self.kwargs["id"])
        if question is None:
            return []
        answers.take_up(question)  # the server may have been started anew
        return [question.channel]


@require_POST
def stop(request: HttpRequest, id: str) -> HttpResponse:
    stop_tokens(_find(request, id).channel)
    return done(request, "ask-answer", id)


@require_safe
async def whole(request: HttpRequest, id: str) -> HttpResponse:
    """The same request the old way: nothing, and then everything."""
    question = await sync_to_async(_find)(request, id)
    try:
        text = "".join([token async for token in model.tokens(question)])
    except UpstreamError as error:
        return JsonResponse({"text": "", "failed": str(error)}, status=502)
    return JsonResponse({"text": text})


def _find(request: HttpRequest, id: str) -> Question:
    question = answers.find(request.session, id)
    if question is None:
        raise Http404("You asked no such question.")
    return question
