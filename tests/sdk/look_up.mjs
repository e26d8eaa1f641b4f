// look_up.mjs DAEMON APP_ID OWNER: what an app asks about itself, asked of the daemon as if it were GitHub.
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/rest";
import { privateKey } from "./key.mjs";

const [baseUrl, appId, owner] = process.argv.slice(2);
const octokit = new Octokit({ baseUrl, authStrategy: createAppAuth, auth: { appId: Number(appId), privateKey } });
const { apps } = octokit.rest;
const installations = await octokit.paginate(apps.listInstallations, { per_page: 100 });
const installation_id = installations[0].id;
const nobody = await apps.getOrgInstallation({ org: "nobody" }).catch((error) => error);
const { token } = await octokit.auth({ type: "installation", installationId: installation_id });
console.log(
  JSON.stringify({
    slug: (await apps.getAuthenticated()).data.slug,
    installations: installations.map((installation) => installation.id),
    tokensUrl: (await apps.getInstallation({ installation_id })).data.access_tokens_url,
    ofRepository: (await apps.getRepoInstallation({ owner, repo: "widgets" })).data.id,
    ofOrganization: (await apps.getOrgInstallation({ org: owner })).data.id,
    nobody: { status: nobody.status, code: nobody.response.data.code },
    token,
  }),
);
