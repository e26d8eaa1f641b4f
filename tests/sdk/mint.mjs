// mint.mjs DAEMON GITHUB: auth-app mints at the daemon, and what it got goes to GitHub.
import { createAppAuth } from "@octokit/auth-app";
import { request } from "@octokit/request";
import { Octokit } from "@octokit/rest";
import { privateKey } from "./key.mjs";

const [daemon, github] = process.argv.slice(2);
const auth = createAppAuth({
  appId: 1001,
  privateKey,
  installationId: 1,
  request: request.defaults({ baseUrl: daemon }),
});
const repositories = async (token) => {
  const octokit = new Octokit({ baseUrl: github, auth: token });
  const { data } = await octokit.rest.apps.listReposAccessibleToInstallation();
  return data.repositories.map((repository) => repository.full_name);
};

const whole = await auth({ type: "installation" });
const again = await auth({ type: "installation", refresh: true });
const narrowed = await auth({
  type: "installation",
  repositoryNames: ["widgets"],
  permissions: { contents: "read" },
});
const byId = await auth({ type: "installation", repositoryIds: [2] });
console.log(
  JSON.stringify({
    whole: { ...whole, sees: await repositories(whole.token) },
    again,
    narrowed: { ...narrowed, sees: await repositories(narrowed.token) },
    byId: { ...byId, sees: await repositories(byId.token) },
  }),
);
