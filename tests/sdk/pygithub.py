"""pygithub.py DAEMON GITHUB: look-ups and tokens from the daemon, everything else from GitHub."""

import json
import sys

import jwt
from github import Auth, Github, GithubIntegration

daemon, github = sys.argv[1:]
# The daemon does not look at the JWT's signature.
app = Auth.AppAuth(1001, sign_func=lambda claims: jwt.encode(claims, 32 * "x", algorithm="HS256"))
integration = GithubIntegration(auth=app, base_url=daemon)


def sees(token):
    client = Github(auth=Auth.Token(token), base_url=github)
    _, answer = client.requester.requestJsonAndCheck("GET", "/installation/repositories")
    return [repository["full_name"] for repository in answer["repositories"]]


whole = integration.get_access_token(1)
narrowed = integration.get_access_token(1, permissions={"contents": "read"})
print(
    json.dumps(
        {
            "slug": integration.get_app().slug,
            "installations": [installation.id for installation in integration.get_installations()],
            "of_repository": integration.get_repo_installation("acme", "widgets").id,
            "of_organization": integration.get_org_installation("acme").id,
            "whole": {"token": whole.token, "sees": sees(whole.token)},
            "narrowed": {"token": narrowed.token, "permissions": narrowed.permissions},
        }
    )
)
