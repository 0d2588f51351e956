//! The examples, run as a user runs them: the program is started, and the commands it prints are typed into a shell.
#![cfg(feature = "memory")]

#[path = "servers/example.rs"]
mod example;
#[allow(dead_code, reason = "examples need less of it than guides")]
#[path = "guides/shell.rs"]
mod guide;
#[cfg(all(feature = "axum", feature = "postgres"))]
#[allow(dead_code, reason = "examples need less of a server than its own tests")]
#[path = "postgres/support/server.rs"]
mod postgres;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "examples need less of a server than its own tests")]
#[path = "redis/support/server.rs"]
mod server;
#[cfg(any(all(feature = "axum", feature = "postgres"), feature = "redis"))]
#[allow(dead_code, reason = "examples need less of a server than its own tests")]
#[path = "servers/supervisor.rs"]
mod servers;

#[cfg(any(all(feature = "axum", feature = "postgres"), feature = "redis"))]
use std::thread;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use example::{Example, path};

fn shell(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().expect("there is a shell");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_that_the_axum_example_prints_show_what_it_says() {
    let example = Example::start("axum", &[], 3);
    let [post, twenty_posts, get] = &example.commands[..] else { panic!("three commands: {:?}", example.commands) };

    let (first, second) = (shell(post), shell(post));
    assert!(first.starts_with("HTTP/1.1 201 Created"), "{first}");
    assert!(first.contains("location: /payments/1"), "{first}");
    assert!(first.ends_with(r#"{"id":1,"amount":1200,"currency":"eur"}"#), "{first}");
    assert!(!first.contains("idempotent-replayed"), "{first}");
    let without = |name: &str, answer: &str| {
        answer.lines().filter(|line| !line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(second.contains("idempotent-replayed: true"), "{second}");
    let replayed = without("idempotent-replayed", &without("date", &second).join("\n"));
    assert_eq!(replayed, without("date", &first));

    let answers = shell(twenty_posts);
    let count = |status: &str| answers.lines().filter(|&line| line == status).count();
    assert_eq!((count("201"), count("409")), (1, 19), "{answers}");

    let executed = shell(get);
    assert!(executed.starts_with(r#"{"count":2,"payments":[{"id":1,"#), "{executed}");
    assert!(get.contains(&example.url));
}

#[test]
fn the_axum_example_lets_duplicates_wait() {
    let example = Example::start("axum", &["--wait", "30000"], 3);
    let [_, twenty_posts, get] = &example.commands[..] else { panic!("three commands: {:?}", example.commands) };
    assert_eq!(shell(twenty_posts).lines().collect::<Vec<_>>(), ["201"; 20]);
    let executed = shell(get);
    assert!(executed.starts_with(r#"{"count":1,"#), "{executed}");

    let example = Example::start("axum", &["--port", "0", "--wait", "0"], 3);
    let answers = shell(&example.commands[1]);
    assert_eq!(answers.lines().filter(|&line| line == "409").count(), 19, "{answers}");
}

#[test]
fn the_axum_example_stops_after_the_runs_whose_client_has_left() {
    let mut process = Command::new(path("axum")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.next().unwrap().strip_prefix("listening on ").unwrap().to_owned();
    // curl leaves (28) while its payment is made.
    shell(&format!(
        "curl -s --max-time 0.5 '{url}/payments?delay_ms=3000' -H 'X-Idempotency-Key: k-1' \
         -H 'Content-Type: application/json' -d '{{\"amount\":1,\"currency\":\"eur\"}}' || test $? = 28"
    ));
    shell(&format!("kill -INT {}", process.id()));
    let said: Vec<_> = lines.skip_while(|line| !line.starts_with("stop")).collect();
    assert_eq!(said, ["stopping, runs left: 1", "stopped, runs left: 0"]);
    assert!(process.wait().unwrap().success());
}

/// Sends what two processes print to both. Two payments are made, one of them by forty clients at once.
#[cfg(any(all(feature = "axum", feature = "postgres"), feature = "redis"))]
fn assert_that_each_payment_is_made_once(processes: &[Example; 2]) {
    let [one, other] = processes.each_ref().map(|process| &process.commands[..]);
    let ([post, twenty_posts, get], [other_post, other_twenty_posts, other_get]) = (one, other) else {
        panic!("three commands each: {one:?}, {other:?}")
    };

    let (first, second) = (shell(post), shell(other_post));
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).map(str::to_owned);
    assert!(first.starts_with("HTTP/1.1 201 Created"), "{first}");
    assert!(!first.contains("idempotent-replayed"), "{first}");
    assert!(second.contains("idempotent-replayed: true"), "{second}");
    assert!(body(&first).is_some_and(|body| body.contains(r#""amount":1200"#)), "{first}");
    assert_eq!(body(&second), body(&first));

    let answers = thread::scope(|scope| {
        let other = scope.spawn(|| shell(other_twenty_posts));
        shell(twenty_posts) + &other.join().unwrap()
    });
    assert_eq!(answers.lines().collect::<Vec<_>>(), ["201"; 40]);

    let executed = shell(get);
    assert!(executed.starts_with(r#"{"count":2,"#), "{executed}");
    assert_eq!(shell(other_get), executed);
}

#[cfg(feature = "redis")]
#[test]
fn the_commands_that_two_processes_of_the_axum_redis_example_print_make_each_payment_once() {
    let server = server::Server::start(&[]);
    let start = || Example::start("axum_redis", &["--redis", &server.url(), "--wait", "30000", "--lease", "5000"], 3);
    assert_that_each_payment_is_made_once(&[start(), start()]);
}

/// `tests/ledger` kills them.
#[cfg(all(feature = "axum", feature = "postgres"))]
#[test]
fn the_commands_that_two_processes_of_the_axum_postgres_example_print_make_each_payment_once() {
    let server = postgres::Server::start(&[]);
    let database = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let start = || Example::start("axum_postgres", &["--database", &database, "--wait", "30000"], 3);
    // Together, as if nobody had created the tables yet.
    let processes = thread::scope(|scope| {
        let other = scope.spawn(start);
        [start(), other.join().unwrap()]
    });
    assert_that_each_payment_is_made_once(&processes);
}

/// The record is gone, and with it the promise: the request runs again, and still nobody pays twice.
#[cfg(feature = "redis")]
#[test]
fn a_payment_of_the_axum_redis_example_is_made_once_though_its_record_is_lost() {
    let server = server::Server::start(&[]);
    let example = Example::start("axum_redis", &["--redis", &server.url()], 3);
    let [post, _, get] = &example.commands[..] else { panic!("three commands: {:?}", example.commands) };

    let first = shell(post);
    let records: Vec<String> = server.ask("KEYS idempotency:*");
    assert_eq!(server.ask::<u32>(&format!("DEL {}", records[0])), 1);
    let second = shell(post);
    assert!(second.starts_with("HTTP/1.1 201 Created"), "{second}");
    assert!(!second.contains("idempotent-replayed"), "{second}");
    assert_eq!(first.lines().last(), second.lines().last());
    let executed = shell(get);
    assert!(executed.starts_with(r#"{"count":1,"#), "{executed}");
}

#[test]
fn the_axum_example_refuses_arguments_that_it_does_not_know() {
    for (arguments, wrong) in [
        (&["--port", "99999"][..], "--port"),
        (&["--port"], "--port"),
        (&["--host", "0.0.0.0"], "--host"),
        (&["--port", "0", "--wait", "-1"], "--wait"),
    ] {
        let mut process =
            Command::new(path("axum")).args(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!process.wait().unwrap().success());
        assert!(said.contains(wrong), "{said}");
    }
}

#[test]
fn the_commands_that_the_tonic_example_prints_show_what_it_says() {
    let example = Example::start("tonic", &[], 3);
    let [pay, pay_more, history] = &example.commands[..] else { panic!("three commands: {:?}", example.commands) };
    assert_eq!(shell(pay), "Payment { id: 1, amount: 1200 } executed\n");
    assert_eq!(shell(pay), "Payment { id: 1, amount: 1200 } replayed\n");
    assert!(shell(pay_more).starts_with("FailedPrecondition: "));
    assert_eq!(shell(history), "executed\nPayment { id: 1, amount: 1200 }\n");
    assert_eq!(shell(history), "replayed\nPayment { id: 1, amount: 1200 }\n");
}

#[test]
fn the_commands_of_the_tonic_guide_print_what_it_says() {
    let example = Example::start("tonic", &["--port", "0"], 3);
    let address = example.url.strip_prefix("http://").unwrap();
    let guide = guide::Guide(include_str!("../docs/guide/tonic.md"));
    let program = path("tonic");
    let program = program.to_str().unwrap();
    guide.keeps_its_word(&[("cargo run -q --example tonic --", program), ("127.0.0.1:50051", address)]);
}

#[test]
fn the_commands_of_the_comparison_print_what_it_says() {
    let example = Example::start("axum", &["--port", "0"], 3);
    let guide = guide::Guide(include_str!("../docs/guide/comparison.md"));
    guide.keeps_its_word(&[("http://127.0.0.1:3000", &example.url)]);
}

#[test]
fn the_commands_that_the_hyper_example_prints_show_what_it_says() {
    let example = Example::start("hyper", &[], 2);
    let [post, stream] = &example.commands[..] else { panic!("two commands: {:?}", example.commands) };
    let (first, second) = (shell(post), shell(post));
    assert!(first.contains("\r\n\r\nrun 1 of this service\n"), "{first}");
    assert!(second.contains("idempotent-replayed: true"), "{second}");
    assert!(second.ends_with("run 1 of this service\n"), "{second}");
    assert_eq!(shell(stream), "run 2 counts: 1, 2, 3\n");
    assert_eq!(shell(stream), "run 2 counts: 1, 2, 3\n");
}

#[cfg(all(feature = "axum", feature = "metrics", feature = "tracing"))]
#[test]
fn the_commands_that_the_observability_example_prints_show_what_it_says() {
    let example = Example::start("observability", &[], 4);
    let [five_posts, mismatch, leave, metrics] = &example.commands[..] else {
        panic!("four commands: {:?}", example.commands)
    };
    assert_eq!(shell(five_posts), "payment 1\n".repeat(5));
    assert!(shell(mismatch).contains(r#""status":422"#));
    assert_eq!(shell(leave), "payment 2\n");
    let metrics = shell(metrics);
    let lines: Vec<_> = metrics.lines().collect();
    let labels = r#"kind="http",namespace="payments""#;
    let counted = |outcome| format!("idempotency_requests_total{{{labels},outcome=\"{outcome}\"}}");
    for line in [
        format!("{} 2", counted("executed")),
        format!("{} 5", counted("replayed")),
        format!("{} 1", counted("mismatch")),
        format!("idempotency_runs{{{labels}}} 0"),
        format!("idempotency_waiters{{{labels}}} 0"),
        format!("idempotency_record_bytes_count{{{labels}}} 2"),
    ] {
        assert!(lines.contains(&&*line), "no {line} in {metrics}");
    }
    for (name, count) in [("claim", 8), ("complete", 2), ("wait", 5)] {
        let line = format!("idempotency_{name}_seconds_count{{{labels}}} {count}");
        assert!(lines.contains(&&*line), "no {line} in {metrics}");
    }
}

#[cfg(feature = "json")]
#[test]
fn the_commands_that_the_webhooks_example_prints_show_what_it_says() {
    let example = Example::start("webhooks", &[], 4);
    let [deliveries @ .., events] = &example.commands[..] else { panic!("four commands: {:?}", example.commands) };
    for (number, delivery) in (1..).zip(deliveries) {
        assert_eq!(shell(delivery), format!("processed as number {number}\n").repeat(2));
    }
    let events: Vec<String> = serde_json::from_str(&shell(events)).unwrap();
    assert_eq!(events, [r#"{"order":1}"#, r#"{"event":{"id":"evt_1"},"paid":1200}"#, "celsius 21.5"]);
}

#[test]
fn the_queue_consumer_example_has_each_effect_as_often_as_it_says() {
    let folder = std::env::temp_dir().join(format!("queue_consumer_test_{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new(path("queue_consumer")).arg(&folder).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let lines = |start: &str| said.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    assert_eq!(lines("sent"), ["sent m-1", "sent m-2", "sent m-2", "sent m-3", "sent m-4"]);
    assert_eq!(
        lines("the consumer has"),
        ["the consumer has died", "the consumer has died", "the consumer has emptied the queue"]
    );
    for again in ["m-2", "m-4"] {
        assert_eq!(
            lines(&format!("  {again} delivered")).last().unwrap(),
            &format!("  {again} delivered: done before")
        );
    }
    assert_eq!(lines("ledger"), ["ledger entries: m-1 1, m-2 1, m-3 1, m-4 1"]);
    assert_eq!(lines("e-mails"), ["e-mails: m-1 1, m-2 1, m-3 2, m-4 1"]);

    // What is there, whatever the example says.
    let ledger = rusqlite::Connection::open(folder.join("queue_consumer.db")).unwrap();
    let sum: String =
        ledger.query_row("SELECT count(*) || ': ' || sum(amount) FROM ledger", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, format!("4: {}", 1200 + 80 + 75 + 9900));
    let emails = std::fs::read_to_string(folder.join("emails.txt")).unwrap();
    let mut emails: Vec<_> = emails.lines().collect();
    emails.sort_unstable();
    assert_eq!(emails, ["m-1", "m-2", "m-3", "m-3", "m-4"]);
    drop(ledger);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_retrying_client_example_pays_once_for_each_key_over_a_network_that_loses_answers() {
    let output = Command::new(path("retrying_client")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let parts: Vec<Vec<_>> = said.split("# ").skip(1).map(|part| part.lines().skip(1).collect()).collect();
    let [lost, twice, reused] = &parts[..] else { panic!("three parts: {said}") };

    let key = lost[0].strip_prefix("key ").and_then(|line| line.split_once(": ")).expect("a key").0;
    assert_eq!(key.len(), 36, "a UUID: {said}");
    let line = |what: &str| format!("key {key}: {what}");
    let attempts = [
        line("the request is lost"),
        line("201 Created, and the answer is lost"),
        line("201 Created (replayed), and the answer is lost"),
        line("201 Created (replayed)"),
    ];
    assert_eq!(lost[..4], attempts);
    assert_eq!(lost[4..], [r#"answer: 201 Created, {"id":1,"amount":1200}"#]);

    let mut twice = twice.clone();
    twice.sort_unstable();
    let answer = r#"answer: 201 Created, {"id":2,"amount":80}"#;
    let attempts = ["key order-7: 201 Created", "key order-7: 201 Created (replayed)", "key order-7: 409 Conflict"];
    assert_eq!(twice, [&[answer; 2][..], &attempts].concat());

    let refused = ["key order-7: 422 Unprocessable Entity", "answer: 422 Unprocessable Entity"];
    assert_eq!(reused[..2], refused);
    assert_eq!(reused[2..], ["payments made: 1 of 1200, 2 of 80"]);

    // The guide shows it, with a key of its own and in an order of its own.
    let shown =
        include_str!("../docs/guide/client.md").split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("the guide shows what is printed").replace("9e6bc6b0-22dd-4612-b8ef-eb54be546df4", key);
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&shown), sorted(&said));
}

#[cfg(feature = "test-util")]
#[test]
fn the_custom_backend_example_passes_the_suite_and_replays_what_an_earlier_process_recorded() {
    let output = Command::new(path("custom_backend")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let [verdict, first, next] = lines[..] else { panic!("three lines: {said}") };
    assert!(verdict.starts_with("SqliteBackend keeps the laws ("), "{said}");
    assert_eq!(first, "the first process answers 201 Created, replayed: false: paid by the first process");
    assert_eq!(next, "the next process answers 201 Created, replayed: true: paid by the first process");
}

#[test]
fn the_encryption_example_shows_what_it_says() {
    let output = Command::new(path("encryption")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let [first, stored, rotated, moved] = lines[..] else { panic!("four lines: {said}") };
    assert_eq!(first, "the first request:  paid with card 4242, replayed: false");
    assert!(stored.starts_with("what is stored:     b\"\\0\\0\\0\\x01"), "{said}");
    assert_eq!(rotated, "with the next key:  paid with card 4242, replayed: true");
    assert_eq!(moved, "a record elsewhere: an encrypted record was changed, or stored elsewhere");
}

/// What its buttons send. `tests/interop` clicks them in a browser.
#[test]
fn twenty_payments_of_the_demo_are_one_charge_with_the_layer_and_twenty_without_it() {
    let demo = Example::start("demo", &[], 0);
    let url = &demo.url;
    let post = |path: &str, key: &str, options: &str| {
        format!(
            "curl -s -o /dev/null -w '%{{http_code}}\n' {url}{path} -H 'Idempotency-Key: {key}' {options} \
             -H 'Content-Type: application/json' -d '{{\"amount\":12000}}'"
        )
    };
    // As the page does: the same again, until it is answered.
    let until_paid = |key: &str| {
        let post = post("/payments", key, "-H 'x-demo-unique: 1'");
        shell(&format!("for try in $(seq 600); do test $({post}) = 201 && exit; sleep 0.1; done; exit 1"));
    };
    let counted = || {
        let news = shell(&format!("curl -sN --max-time 0.5 {url}/news || test $? = 28"));
        let news: serde_json::Value =
            serde_json::from_str(news.lines().next().unwrap().trim_start_matches("data: ")).unwrap();
        [("with", "charges"), ("with", "runs"), ("without", "charges"), ("without", "runs")]
            .map(|(layer, what)| news["counts"][layer][what].as_u64().unwrap())
    };
    assert!(shell(&format!("curl -s {url}")).contains(">20 clicks at once</button>"));
    until_paid("k-0"); // the nodes are up
    assert_eq!(counted(), [1, 1, 0, 0]);

    let twenty = |path| shell(&format!("seq 20 | xargs -P 20 -I {{}} {}", post(path, "k-1", "")));
    let answers = twenty("/payments");
    assert!(answers.lines().all(|status| ["201", "409"].contains(&status)), "{answers}");
    assert_eq!(twenty("/unprotected/payments").lines().collect::<Vec<_>>(), ["201"; 20]);
    assert_eq!(counted(), [2, 2, 20, 20]);

    // Killed after the charge: what is repeated is the run.
    let crash = post("/payments", "k-2", "-H 'x-demo-crash: after' -H 'x-demo-unique: 1'");
    assert_eq!(shell(&crash), "502\n");
    until_paid("k-2");
    assert_eq!(counted(), [3, 4, 20, 20]);
}
