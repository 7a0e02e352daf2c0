// Posts with the AWS SDK for JavaScript and Promise.all. Arguments: endpoint, how many, rounds, SDK's folder.
import { createRequire } from "node:module";

const [endpoint, count, rounds, folder] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");
const body = JSON.stringify({ event: "dashboard:update", data: { text: "x".repeat(180) }, timestamp: "2026-01-01T00:00:00.000Z", id: "01947416-2a40-7c2e-a2f1-5b0c6d7e8f90" });
const client = new ApiGatewayManagementApiClient({
  endpoint, region: "us-east-1", credentials: { accessKeyId: "AKID", secretAccessKey: "SECRET" },
});
// One in a hundred is gone, as in messages.py.
const ids = (n) => Array.from({ length: n }, (_, i) => `TWegAc4EowC${String(i).padStart(6, "0")}${i % 100 === 99 ? "gone" : ""}=`);
const cpu = () => { const { user, system } = process.cpuUsage(); return user + system; };

async function send(receivers) {
  let gone = 0;
  await Promise.all(receivers.map((ConnectionId) =>
    client.send(new PostToConnectionCommand({ ConnectionId, Data: body })).catch((error) => {
      if (error.name !== "GoneException") throw error;
      gone += 1;
    })));
  return [receivers.length - gone, gone];
}

await send(ids(1000));
const cold = cpu() / 1000;
const results = [];
for (let round = 0; round < Number(rounds); round += 1) {
  const before = cpu(), began = process.hrtime.bigint();
  const [sent, gone] = await send(ids(Number(count)));
  if (sent + gone !== Number(count) || gone !== Math.floor(Number(count) / 100)) throw new Error(`${sent} sent, ${gone} gone`);
  results.push([(cpu() - before) / Number(count), Number(count) / (Number(process.hrtime.bigint() - began) / 1e9)]);
}
results.sort((a, b) => a[0] - b[0]);
const [cpuUs, rate] = results[Math.floor((results.length - 1) / 2)];
console.log(JSON.stringify({ cpu_us: cpuUs, per_second: rate, cold_us: cold }));
process.exit(0);
