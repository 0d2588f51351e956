//! The guides, as a reader uses them: their programs run here, and their commands are typed into a shell.
#![cfg(all(feature = "axum", feature = "json", feature = "memory", feature = "metrics"))]
#![allow(dead_code, reason = "a guide shows a whole program, of which its test needs a part")]

mod client;
mod shell;

/// Asserts that the guide shows the program, and that its commands print what it says.
macro_rules! guide {
    ($name:ident, $page:literal, $program:literal, $serve:expr) => {
        mod $name {
            include!($program);

            #[tokio::test(flavor = "multi_thread")]
            async fn does_what_it_says() {
                let guide = crate::shell::Guide(include_str!(concat!("../../docs/guide/", $page)));
                guide.shows(include_str!($program));
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap().to_string();
                let serve = $serve;
                tokio::spawn(async move { serve(listener).await });
                guide.keeps_its_word(&[("127.0.0.1:3000", &address)]);
            }
        }
    };
}

guide!(the_axum_guide, "axum.md", "axum.rs", |listener| async { axum::serve(listener, app()).await });
guide!(the_hyper_guide, "hyper.md", "hyper.rs", serve);
guide!(the_guide_to_webhooks, "webhooks.md", "webhooks.rs", |listener| async { axum::serve(listener, app()).await });
guide!(the_guide_to_tenants, "multi-tenant.md", "multi_tenant.rs", |listener| async {
    axum::serve(listener, app()).await
});
guide!(the_guide_from_idempotent, "from-idempotent.md", "from_idempotent.rs", |listener| async {
    axum::serve(listener, app()).await
});
guide!(the_guide_from_axum_idempotent, "from-axum-idempotent.md", "from_axum_idempotent.rs", |listener| async {
    axum::serve(listener, app()).await
});
guide!(the_guide_for_operators, "operating.md", "operating.rs", |listener| async {
    axum::serve(listener, app(prometheus().unwrap())).await
});

#[test]
fn the_guide_for_operators_names_a_key_as_logs_do() {
    let name = format!("{:?}", tower_idempotency::Key::new("checkout", "k-1"));
    assert!(include_str!("../../docs/guide/operating.md").contains(&format!("`key={name}`")), "{name}");
}
