/** A program that uses every entry of the package, for whichever tool is to build it or place to run it. */
export const PROOF = "in dashboard_user_u1; io in dashboard_user_u1; socket in dashboard_user_u1";

/** Uses every entry, and says which rooms it came into. */
export const USE = `
async function use({ createClient, RoomcastError }, { io }, { resume }, socket, options) {
  const { url } = options;
  const client = createClient({ getToken: () => "t", ...options });
  const { room } = await client.join("dashboard");
  const resumed = createClient({ getToken: () => "t", ...options, resume });
  await resumed.join("dashboard");
  if (typeof resumed.positions() !== "object") throw new Error("no positions");
  resumed.disconnect();
  const refused = await client.send("unknown").catch((error) => error);
  if (!(refused instanceof RoomcastError)) throw refused;
  client.disconnect();
  const second = io(url, { auth: { token: "t" }, WebSocket: options.WebSocket });
  await new Promise((resolve) => second.on("connect", resolve));
  const reply = await second.emitWithAck("dashboard:join");
  if (typeof second.id !== "string") throw new Error("socket.id is " + second.id);
  second.disconnect();
  socket.initSocket({ token: "t", ...options });
  const third = await socket.joinDashboard();
  socket.disconnectSocket();
  return "in " + room + "; io in " + reply.room + "; socket in " + third.room;
}

async function useFake({ createClient }, { FakeServer }) {
  const server = new FakeServer();
  const client = createClient({ url: "wss://fake.test", getToken: () => "t", WebSocket: server.WebSocket });
  await client.join("dashboard");
  client.disconnect();
}
`;
export const IMPORTS = `
import { createClient, RoomcastError } from "roomcast";
import { io } from "roomcast/io";
import { resume } from "roomcast/resume";
import * as socket from "roomcast/socket";
import * as hooks from "roomcast/react";
import { FakeServer } from "roomcast/testing";
`;
/** A module that an application's bundler is given; it leaves a promise of the proof behind. */
export const MODULE = `${IMPORTS}${USE}
if (typeof hooks.useRoom !== "function") throw new Error("roomcast/react has no useRoom");
globalThis.proof = useFake({ createClient }, { FakeServer })
  .then(() => use({ createClient, RoomcastError }, { io }, { resume }, socket, globalThis.options));
`;
export const REQUIRE = `${USE}
const hooks = require("roomcast/react");
if (typeof hooks.useRoom !== "function") throw new Error("roomcast/react has no useRoom");
globalThis.proof = useFake(require("roomcast"), require("roomcast/testing"))
  .then(() => use(require("roomcast"), require("roomcast/io"), require("roomcast/resume"), require("roomcast/socket"), globalThis.options));
`;
