// Socket.IO's own clients in one process, which join again whenever they were not recovered.
import { io } from "socket.io-client";
import { account, clients, options, tally } from "./tally.mjs";

const { url, tokens, first, room, settings = {} } = options;

for (const [index, token] of tokens.entries()) {
  const one = account(`c${first + index}`);
  const query = { token, cut: `${first + index}` };
  const socket = io(url, { transports: ["websocket"], forceNew: true, query, ...settings });
  socket.on("connect", () => {
    tally.connects++;
    one.connected = true;
    if (!socket.recovered) socket.emit("chat:join_room", { roomId: room.slice("chat_room_".length) });
    else tally.recovered++;
  });
  socket.on("disconnect", () => (one.connected = false));
  socket.on("chat:joined_room", () => (one.joined = true));
  socket.on("tick", (data) => {
    tally.received++;
    one.got(data, data.n);
  });
}
console.log(JSON.stringify({ clients: clients.length }));
