// keep.mjs DAEMON GITHUB: mints, and tells what it has and what GitHub says to that whenever it is told, by a line on
// stdin, how many seconds have passed.
import { createInterface } from "node:readline";
import { createAppAuth } from "@octokit/auth-app";
import { request } from "@octokit/request";
import { Octokit } from "@octokit/rest";
import { privateKey } from "./key.mjs";

const [daemon, github] = process.argv.slice(2);
const start = Date.now();
let passed = 0;
Date.now = () => start + passed;

const auth = createAppAuth({
  appId: 1001,
  privateKey,
  installationId: 1,
  request: request.defaults({ baseUrl: daemon }),
});
const tell = async () => {
  const { token } = await auth({ type: "installation" });
  const octokit = new Octokit({ baseUrl: github, auth: token });
  const { status } = await octokit.request("GET /installation/repositories");
  console.log(JSON.stringify({ token, status }));
};

await tell();
for await (const seconds of createInterface({ input: process.stdin })) {
  passed += 1000 * Number(seconds);
  await tell();
}
