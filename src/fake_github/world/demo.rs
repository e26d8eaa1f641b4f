//! Ready-made worlds.

use std::collections::BTreeSet;

use super::definition::{Account, App, Installation, Member, Repository, Selection, World, permissions};

impl World {
    /// One app, `demo`, on the organisation `acme`, the user `octocat` and the enterprise `acme-enterprise`. The
    /// user `octocat` sees all of `acme`, `hubot` belongs to it and sees nothing private, `mona` is a stranger.
    pub fn demo() -> Self {
        let repository = |id, owner: &str, name: &str, private| Repository {
            id,
            owner: owner.into(),
            name: name.into(),
            private,
        };
        let organization = Installation {
            permissions: permissions("contents:write issues:write metadata:read pull_requests:write"),
            ..Installation::new(1, "demo", "acme")
        };
        let user = Installation {
            repository_selection: Selection::Selected,
            repositories: BTreeSet::from(["hello-world".to_owned()]),
            permissions: permissions("contents:read metadata:read"),
            ..Installation::new(2, "demo", "octocat")
        };
        let enterprise = Installation {
            permissions: permissions("enterprise_custom_properties_for_organizations:read metadata:read"),
            ..Installation::new(3, "demo", "acme-enterprise")
        };
        Self {
            apps: vec![App {
                client_id: "Iv23liDemoApp0000001".into(),
                slug: "demo-app".into(),
                permissions: permissions("contents:write issues:write metadata:read pull_requests:write"),
                events: vec!["installation_target".into(), "repository".into()],
                ..App::new("demo", 1001)
            }],
            accounts: vec![
                Account::Organization { login: "acme".into(), id: 1 },
                Account::User { login: "octocat".into(), id: 2 },
                Account::Enterprise { slug: "acme-enterprise".into(), id: 3 },
                Account::User { login: "hubot".into(), id: 4 },
                Account::User { login: "mona".into(), id: 5 },
            ],
            repositories: vec![
                repository(1, "acme", "widgets", false),
                repository(2, "acme", "gadgets", false),
                repository(3, "acme", "secrets", true),
                repository(4, "octocat", "hello-world", false),
            ],
            installations: vec![organization, user, enterprise],
            members: vec![
                Member::new("acme", "octocat"),
                Member { repositories: Some(BTreeSet::new()), ..Member::new("acme", "hubot") },
            ],
        }
    }

    /// The app `demo` with `count` installations, ids from 1, on the organisations `org-0001`, `org-0002` and so
    /// on, each with the repository `widgets`.
    pub fn with_installations(count: u64) -> Self {
        let mut world = Self { apps: Self::demo().apps, ..Self::default() };
        for id in 1..=count {
            let login = format!("org-{id:04}");
            world.repositories.push(Repository {
                id,
                owner: login.clone(),
                name: "widgets".into(),
                private: true,
            });
            world.installations.push(Installation {
                permissions: permissions("contents:write metadata:read"),
                ..Installation::new(id, "demo", &login)
            });
            world.accounts.push(Account::Organization { login, id });
        }
        world
    }
}
