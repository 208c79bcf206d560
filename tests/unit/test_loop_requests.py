"""Tests of `loop_requests`."""

from __future__ import annotations

import socket
import threading

from qemu_migration_exporter.loop_requests import Requests

from tests.support.patience import patience


def test_reload_is_answered_once_for_all() -> None:
    requests = Requests()
    first, second = requests.reload(), requests.reload()
    second.cancel()
    assert requests.wants_reload
    requests.answer_reloads("line 3: unknown key")
    assert first.result(0) == "line 3: unknown key"
    assert not requests.wants_reload


def test_signal_requests_reload() -> None:
    requests = Requests()
    requests.reload_by_signal()
    assert requests.wants_reload
    requests.answer_reloads(None)
    assert not requests.wants_reload


def test_refresh_wakes_loop_and_is_answered() -> None:
    requests = Requests()
    waker, woken = socket.socketpair()
    with waker, woken:
        requests.waker = waker
        waiting = threading.Thread(target=requests.refresh)
        waiting.start()
        woken.settimeout(patience(5))
        assert woken.recv(1) == b"\0"
        assert requests.wants_refresh
        requests.answer_refreshes()
        waiting.join(patience(5))
    assert not waiting.is_alive()
    assert not requests.wants_refresh


def test_busy_loop_delays_no_answer_for_long() -> None:
    """A refresh returns without an answer, and with a closed socket."""
    requests = Requests()
    requests.waker, woken = socket.socketpair()
    requests.waker.close()
    requests.refresh()
    assert requests.wants_refresh
    woken.close()


def test_stopped_loop_answers_at_once() -> None:
    requests = Requests()
    before = requests.reload()
    requests.stop()
    requests.refresh()
    assert not requests.wants_refresh
    assert before.result(0) == requests.reload().result(0) == "the exporter is stopping"
