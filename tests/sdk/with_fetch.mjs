// Runs behind the lines of src/guide/sdks.md that define viaGhtokend, with the address of GitHub as argument.
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/rest";
import { privateKey } from "./key.mjs";

const app = new Octokit({
  baseUrl: process.argv[1],
  authStrategy: createAppAuth,
  auth: { appId: 1001, privateKey },
  request: { fetch: viaGhtokend },
});
const { rest } = app;
const repository = { owner: "org-0007", repo: "widgets" };
const installations = await app.paginate(rest.apps.listInstallations, { per_page: 100 });
const { data: installation } = await rest.apps.getRepoInstallation(repository);
const factory = (auth) =>
  new Octokit({ baseUrl: process.argv[1], authStrategy: createAppAuth, auth, request: { fetch: viaGhtokend } });
const octokit = await app.auth({ type: "installation", installationId: installation.id, factory });
const { data } = await octokit.rest.apps.listReposAccessibleToInstallation();
const named = (await octokit.rest.repos.get(repository)).data.full_name;
const { token } = await octokit.auth({ type: "installation" });
const { status } = await octokit.rest.apps.revokeInstallationAccessToken();
console.log(
  JSON.stringify({
    installations: installations.map((one) => one.id),
    ofRepository: installation.id,
    sees: data.repositories.map((one) => one.full_name),
    named,
    token,
    revoked: status,
  }),
);
