from __future__ import annotations

import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from gptflow.errors import LarkError, UsageError
from gptflow.notify.hook import signature
from gptflow.notify.lark import TRIES, LarkBot
from tests.lark_server import TOKEN, LarkServer, Reply

SECRET = "canary-secret-77aa"


def error_of(action: Callable[[], None]) -> LarkError:
    with pytest.raises(LarkError) as caught:
        action()
    return caught.value


def shown(error: BaseException) -> str:
    """All that anybody can see of an exception, the variables of our own frames included."""
    assert error.__context__ is None
    assert error.__cause__ is None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    variables = [
        repr(frame.f_locals) for frame in frames if "/tests/" not in frame.f_code.co_filename
    ]
    assert variables
    text = "".join(traceback.format_exception(error))
    return f"{error!r} {error.__dict__} {text} {variables}"


def test_texts_posts_and_cards_arrive(lark: LarkServer) -> None:
    bot = LarkBot(lark.hook)
    bot.send("hello 漢字")
    bot.send_post("title", "a\nb")
    bot.send_card("title", "**content**", color="green")
    assert lark.texts == ["hello 漢字", "title\na\nb", "title\n**content**"]
    assert "timestamp" not in lark.received[0].body


def test_the_hook_and_the_secret_may_come_from_the_environment(
    lark: LarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="LARK_HOOK"):
        LarkBot()
    monkeypatch.setenv("LARK_HOOK", lark.hook)
    monkeypatch.setenv("LARK_SECRET", SECRET)
    LarkBot().send("hello")
    body = lark.received[0].body
    assert body["sign"] == signature(body["timestamp"], SECRET)


def test_each_attempt_is_signed_anew(lark: LarkServer) -> None:
    lark.answer_with(Reply(11232), Reply(0))
    LarkBot(lark.hook, secret=SECRET, backoff_s=1.5).send("hello")
    first, second = (received.body for received in lark.received)
    for body in (first, second):
        assert body["sign"] == signature(body["timestamp"], SECRET)
    assert first["timestamp"] != second["timestamp"]


@pytest.mark.parametrize(
    ("code", "meaning", "is_final"),
    [
        (9499, "form or size", False),
        (19001, "no bot behind this hook", True),
        (19002, "form of the message", False),
        (19007, "not enabled", True),
        (19021, "signature does not match", True),
        (19022, "IP address is not allowed", True),
        (19024, "wants a keyword", True),
        (19036, "too long", False),
        (12345, "not documented", False),
    ],
)
def test_a_code_is_an_error_that_says_what_it_means(
    code: int, meaning: str, is_final: bool, lark: LarkServer
) -> None:
    lark.answer_with(Reply(code))
    error = error_of(lambda: LarkBot(lark.hook).send("hello"))
    assert meaning in str(error)
    assert (error.code, error.is_final) == (code, is_final)
    assert len(lark.received) == 1


def test_a_code_that_is_unknown_here_comes_with_larks_own_words(lark: LarkServer) -> None:
    words = f"param error:\n<at id=all> {TOKEN} {SECRET}" + "x" * 1_000
    lark.answer_with(Reply(content=json.dumps({"code": 12345, "msg": words}).encode()))
    error = error_of(lambda: LarkBot(lark.hook, secret=SECRET).send("hello"))
    assert "not documented: param error: < at id=all> … …xx" in str(error)
    assert len(str(error)) < 400
    assert TOKEN not in shown(error)
    assert SECRET not in shown(error)


def test_what_is_no_text_or_no_colour_is_told_in_plain_words(lark: LarkServer) -> None:
    bot: Any = LarkBot(lark.hook)
    with pytest.raises(UsageError, match="content is of type int, and no text"):
        bot.send(5)
    with pytest.raises(UsageError, match="title is of type NoneType"):
        bot.send_post(None, "text")
    with pytest.raises(UsageError, match=r"no colour 'greeen'\nHint: one of blue, green, orange"):
        bot.send_card("title", "text", color="greeen")
    no_url: Any = 5
    with pytest.raises(ValueError, match="the Lark hook is no text"):
        LarkBot(no_url)
    assert lark.received == []


def test_the_code_of_an_old_hook_counts_too(lark: LarkServer) -> None:
    lark.answer_with(Reply(content=b'{"StatusCode": 0, "StatusMessage": "success"}'))
    LarkBot(lark.hook).send("hello")
    lark.answer_with(Reply(content=b'{"StatusCode": 19001}'))
    assert error_of(lambda: LarkBot(lark.hook).send("hello")).code == 19001


def test_a_message_that_comes_too_soon_is_sent_again_within_a_bound(lark: LarkServer) -> None:
    lark.answer_with(Reply(11232), Reply(11232), Reply(0))
    bot = LarkBot(lark.hook, backoff_s=0.001)
    bot.send("hello")
    assert lark.texts == ["hello"] * 3
    lark.answer_with(Reply(11232))
    error = error_of(lambda: bot.send("hello"))
    assert "too many messages" in str(error)
    assert len(lark.received) == 3 + TRIES


def test_a_card_whose_form_is_refused_goes_as_text(lark: LarkServer) -> None:
    lark.answer_with(Reply(9499), Reply(0))
    LarkBot(lark.hook).send_card("title", "content")
    assert [received.body["msg_type"] for received in lark.received] == ["interactive", "text"]
    assert lark.texts[1] == "title\ncontent"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(content=b"<html>Just a moment</html>"), "not one of Lark's"),
        (Reply(content=b""), "not one of Lark's"),
        (Reply(content=b"[0]"), "not one of Lark's"),
        (Reply(content=b'{"code": "0"}'), "not one of Lark's"),
        (Reply(content=b'{"code": true}'), "not one of Lark's"),
        (Reply(content=b"{" * 100_000), "not one of Lark's"),
        (Reply(content=b'{"code": 0, "x": "' + b"x" * 100_000), "not one of Lark's"),
        (Reply(status=500), "status 500"),
        (Reply(status=404, content=b"not found"), "status 404"),
        (Reply(status=400, code=19021), "signature"),
        (Reply(status=302, headers=(("Location", "https://canary.example/"),)), "redirects"),
        (Reply(hangs=True), "did not answer within 0.2 s"),
        (Reply(drips=True), "did not answer within 0.2 s"),
    ],
)
def test_whatever_the_endpoint_does_it_is_a_lark_error_that_hides_the_hook(
    reply: Reply, words: str, lark: LarkServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lark.answer_with(reply)
    timeout_s = 0.2 if reply.hangs or reply.drips else 10
    bot = LarkBot(lark.hook, secret=SECRET, timeout_s=timeout_s)
    error = error_of(lambda: bot.send("hello"))
    assert words in str(error)
    assert len(lark.received) == 1
    seen = shown(error) + caplog.text + repr(bot) + str(vars(bot))
    assert TOKEN not in seen
    assert SECRET not in seen
    assert "canary.example" not in seen


@pytest.mark.parametrize(
    ("hook", "proxy"),
    [
        (f"http://127.0.0.1:9/{TOKEN}", None),
        (f"https://127.0.0.1:9/{TOKEN}", None),
        (f"https://no-such-host.invalid/{TOKEN}", None),
        (f"https://host.example/{TOKEN}", "http://127.0.0.1:9"),
        (f"https://host.example/{TOKEN}", "nonsense://"),
        (f"https://{'x' * 70}.example/{TOKEN}", None),
    ],
)
def test_a_hook_that_cannot_be_reached_is_an_error_that_hides_it(
    hook: str,
    proxy: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = error_of(lambda: LarkBot(hook, timeout_s=2).send("hello"))
    assert "did not reach Lark" in str(error)
    assert TOKEN not in shown(error) + caplog.text


def test_tls_to_a_server_without_it_is_an_error_that_hides_the_hook(lark: LarkServer) -> None:
    hook = lark.hook.replace("http://", "https://")
    assert TOKEN not in shown(error_of(lambda: LarkBot(hook, timeout_s=2).send("hello")))


def test_what_others_log_by_urllib3_is_still_logged(
    lark: LarkServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    LarkBot(lark.hook).send("hello")
    logging.getLogger("urllib3.connectionpool").debug("somebody else's request")
    assert "somebody else's request" in caplog.text
    assert TOKEN not in caplog.text


def test_a_redirect_is_not_followed(lark: LarkServer) -> None:
    with LarkServer() as elsewhere:
        lark.answer_with(Reply(status=307, headers=(("Location", elsewhere.hook),)))
        error_of(lambda: LarkBot(lark.hook).send("hello"))
        assert elsewhere.received == []


def test_all_bots_and_threads_keep_to_five_a_second_together(lark: LarkServer) -> None:
    bots = [LarkBot(lark.hook), LarkBot(lark.hook)]
    threads = [
        threading.Thread(target=bots[number % 2].send, args=(str(number),)) for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments = sorted(received.at_s for received in lark.received)
    assert len(moments) == 12
    assert moments[10] - moments[0] > 1.9


def test_a_long_text_arrives_cut_and_below_the_limit(lark: LarkServer) -> None:
    LarkBot(lark.hook, secret=SECRET, keyword="lab").send("漢" * 30_000)
    (received,) = lark.received
    assert 19_000 < received.size_bytes <= 20_000
    assert received.text.startswith("[lab] 漢")
    assert received.text.endswith("(cut: Lark takes 20 KB)")


def test_a_bot_pickles_with_its_hook(lark: LarkServer) -> None:
    bot = pickle.loads(pickle.dumps(LarkBot(lark.hook, keyword="lab")))
    bot.send("hello")
    assert lark.texts == ["[lab] hello"]
    assert repr(bot) == "LarkBot(127.0.0.1)"


def test_a_lark_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(LarkError("no", hint="yes", code=19001, is_final=True)))
    assert (str(error), error.code, error.is_final) == ("no\nHint: yes", 19001, True)
