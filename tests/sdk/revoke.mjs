// revoke.mjs DAEMON TOKEN: gives a token back.
import { Octokit } from "@octokit/rest";

const [baseUrl, auth] = process.argv.slice(2);
const { status } = await new Octokit({ baseUrl, auth }).rest.apps.revokeInstallationAccessToken();
console.log(JSON.stringify({ status }));
