"""What django_sse promises, and the tests that prove it: the rows of docs/guarantees.md."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PROMISES", "Promise"]


class Promise(NamedTuple):
    text: str
    tests: tuple[str, ...]
    """``file::test`` or ``file::Class::test`` below tests/; every case of it counts."""
    but: str = ""
    """What of it does not hold yet, or is not tested."""


PROMISES: Final = (
    Promise(
        "An event exists if and only if its transaction committed: with savepoints, in autocommit, rolled back, when "
        "the COMMIT itself fails, when the session is lost before it, when the disk is full.",
        (
            "live/test_publish.py::test_what_was_rolled_back_never_arrives",
            "live/test_publish.py::test_nothing_arrives_before_its_commit",
            "faults/test_transactions.py::test_an_event_exists_if_and_only_if_its_transaction_committed",
            "faults/test_disk.py::test_full",
            "faults/test_disk.py::test_read_only",
        ),
    ),
    Promise(
        "No interleaving of commits, replay, live delivery and trimming loses an event, repeats it within a connection "
        "or brings it out of commit order, over all channels of a stream.",
        (
            "live/test_order.py::test_transactions_that_commit_against_the_order_of_their_inserts",
            "live/test_schedules.py::test_random_schedules",
            "live/test_schedules.py::test_random_schedules_on_real_servers",
            "faults/test_big_run.py::test_random_kills_lose_nothing",
            "faults/test_transactions.py::test_publishers_in_many_threads_with_transactions_of_any_length",
        ),
    ),
    Promise(
        "A process that is killed costs nothing that was committed: a server in the middle of a frame, a publisher "
        "between its commit and the numbering or the doorbell.",
        (
            "faults/test_server_death.py::test_workers_killed_while_they_stream",
            "faults/test_transactions.py::test_a_publisher_killed_after_its_commit",
        ),
    ),
    Promise(
        "At least once from the id that the browser presents, or an explicit `sse.reset` with its reason: expired, "
        "ahead (also after a restored backup), malformed. Never a silent gap.",
        (
            "test_stream.py::TestLossIsSaid::test_a_cursor_older_than_the_log",
            "test_stream.py::TestLossIsSaid::test_a_log_restored_from_an_older_backup",
            "test_stream.py::TestLossIsSaid::test_after_a_rebase_every_old_id_is_told",
            "live/test_protocol.py::test_a_cursor_that_is_not_ours_is_told_so",
        ),
        "A client that overflows is not told by a reset of its own: its cursor lags, or it expires.",
    ),
    Promise(
        "The broker only saves time. Down, flapping, half-open, slow, behind a pool or not there it costs delay: "
        "publishing takes no longer, and within 10 s of its return streams, open and new, hear it again.",
        (
            "brokers/test_outage.py::test_it_comes_back_and_rings_by_itself",
            "brokers/test_outage.py::test_publishing_neither_fails_nor_waits",
            "brokers/test_contract.py::test_strangers_words_are_ignored",
            "faults/test_broker.py::test_down_at_the_start",
            "faults/test_broker.py::test_an_outage",
            "faults/test_broker.py::test_sixty_flaps",
            "faults/test_broker.py::test_many_publishers_at_once",
            "faults/test_broker.py::test_listening_through_a_pool_in_transaction_mode",
        ),
    ),
    Promise(
        "A database that is down, restarted, locked, full or read-only costs delay. Open streams stay and beat, "
        "clients that come are asked to come back, publishers are told by an exception.",
        (
            "faults/test_database.py::test_down_when_clients_come",
            "faults/test_database.py::test_away_under_open_streams",
            "faults/test_database.py::test_sessions_ended_during_a_long_replay",
            "faults/test_transactions.py::test_a_table_that_is_locked_delays_and_loses_nothing",
            "faults/test_disk.py::test_full",
            "faults/test_disk.py::test_read_only",
        ),
        "While a table is locked, new streams wait for it without a byte.",
    ),
    Promise(
        "A transaction that stays open delays its own events and no others, on its own channel neither.",
        ("faults/test_transactions.py::test_a_transaction_that_stays_open_delays_its_own_events_alone",),
    ),
    Promise(
        "An idle stream holds no thread and no database connection; 300 of them leave a process with 10 connections at "
        "most, and ordinary requests do not notice.",
        (
            "live/test_detached.py::test_an_idle_stream_holds_no_thread",
            "live/test_database.py::test_idle_streams_hold_no_database_connections",
            "faults/test_database.py::test_latency_with_idle_streams",
        ),
        "With the application of `django_sse.asgi`.",
    ),
    Promise(
        "Memory per stream is bounded whatever the client does, and given back.",
        (
            "live/test_back_pressure.py::test_who_reads_nothing_costs_little_and_is_cut_off",
            "faults/test_endurance.py::test_clients_that_come_and_go_leave_nothing_behind",
            "test_stream.py::test_large_events_are_replayed_within_bounds",
            "test_stream.py::TestEphemeral::test_a_client_that_does_not_read_loses_the_oldest",
            "faults/test_load.py::test_a_huge_event",
            "faults/test_load.py::test_a_hundred_thousand_channels",
        ),
        "With the application of `django_sse.asgi`.",
    ),
    Promise(
        "Clients that come back all at once are served from memory or by shared queries, and publishing goes on.",
        (
            "test_stream.py::test_clients_with_the_same_question_share_one_query",
            "faults/test_load.py::test_a_reconnect_storm",
            "faults/test_server_death.py::test_no_descriptors_left",
        ),
    ),
    Promise(
        "A stream ends as HTTP says: at its age, spread over 30 % of it; and when its server is told to stop.",
        (
            "faults/test_server_death.py::test_streams_end_at_different_ages_and_go_on",
            "faults/test_endurance.py::test_a_thousand_streams_are_told_to_go",
            "live/test_detached.py::test_told_to_stop_a_server_ends_its_streams_and_then_itself",
            "deploy/test_servers.py::test_it_delivers_and_ends_as_promised",
        ),
    ),
    Promise(
        "Behind a proxy: a quiet stream is not cut, nothing is held back or put on its disk, and a moment without any "
        "server ends no page for good.",
        (
            "faults/test_proxy.py::test_a_quiet_stream_is_not_cut",
            "faults/test_proxy.py::test_a_quiet_stream_is_not_cut_with_everything_as_it_is",
            "faults/test_proxy.py::test_nginx_holds_nothing_back",
            "faults/test_proxy.py::test_a_moment_without_any_server",
            "browser/test_robust.py::test_the_robust_client_is_live_again_after_502",
            "browser/test_robust.py::test_a_native_source_is_live_again_with_the_recipe",
        ),
        "nginx. Without the recipe of `deploy/` a browser's own `EventSource` gives up at a 502; the robust client "
        "does not.",
    ),
    Promise(
        "Forks, several event loops and threads in one process, servers that load the project before they fork: each "
        "has a hub and connections of its own.",
        (
            "faults/test_processes.py::test_one_program_with_many_loops_or_children",
            "faults/test_processes.py::test_a_child_notifies_by_a_session_of_its_own",
            "faults/test_processes.py::test_gunicorn_that_loads_the_project_before_it_forks",
        ),
        "A Celery worker is tried as what it is, a forked child without a loop, not with Celery.",
    ),
    Promise(
        "The clocks of web servers do not matter: order, retention and heartbeats hold when they disagree and jump, "
        "and in the night in which they are put back.",
        (
            "faults/test_clock.py::test_a_night_in_which_the_clock_is_put_back",
            "faults/test_clock.py::test_clocks_that_disagree_and_jump",
            "faults/test_clock.py::test_retention_goes_by_the_clock_of_the_database",
        ),
    ),
    Promise(
        "Django's settings for connections, requests, times, users and databases may be what they are.",
        (
            "faults/test_configuration.py::test_it_works",
            "faults/test_configuration.py::test_a_user_with_a_uuid_reads_the_channel_of_that_user",
        ),
        "On PostgreSQL, MariaDB and SQLite. Pools and isolation levels only where the database has them.",
    ),
    Promise(
        "Nobody reads a channel that the authoriser did not say `True` to.",
        (
            "test_access.py::TestConfigured::test_nothing_else_does",
            "test_access.py::TestConfigured::test_all_or_nothing",
            "test_access.py::TestConfigured::test_one_that_raises_has_said_no",
        ),
    ),
    Promise(
        "A right that ends (logout, expiry, deletion, password, deactivation, permission) closes the stream, on any "
        "worker, with the broker up or down.",
        (
            "security/test_revocation_matrix.py::test_what_a_signal_tells_closes_by_a_notice",
            "security/test_revocation_matrix.py::test_what_nothing_tells_is_found_by_asking_again",
            "security/test_revocation_matrix.py::test_the_developers_word_is_asked_again_too",
        ),
        "On PostgreSQL.",
    ),
    Promise(
        "No channel name, id, header, event type or data, however odd, reads another's event, forges a field or makes "
        "a server error; a row that cannot be an event does not silence the rest.",
        (
            "wire/test_injection.py::test_what_is_published_is_one_event_or_refused",
            "wire/test_injection.py::test_a_row_that_went_past_the_door_forges_nothing",
            "wire/test_refusals.py::test_refused",
            "test_stream.py::TestLossIsSaid::test_a_row_that_cannot_be_an_event_does_not_silence_the_rest",
        ),
    ),
    Promise(
        "What is sent is the WHATWG format, read by an unmodified `EventSource`; compressing middleware "
        "leaves it alone.",
        (
            "wire/test_cases.py::test_published",
            "wire/test_round_trip.py::test_what_is_published_arrives",
            "browser/test_stream.py::test_a_cut_connection_comes_back_with_its_id",
            "browser/test_tag.py::test_three_events_through_compressing_and_conditional_middleware",
        ),
    ),
)
