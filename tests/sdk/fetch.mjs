// fetch.mjs DAEMON: node's own fetch, without any SDK.
const [daemon] = process.argv.slice(2);
const ask = async (headers) => {
  const answer = await fetch(`${daemon}/token`, { headers });
  return { status: answer.status, body: await answer.json() };
};
console.log(JSON.stringify({ named: await ask({ "Ghtokend-Client": "bot" }), nameless: await ask({}) }));
