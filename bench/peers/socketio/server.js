// The same three things in one Node process: a token on connect, ping, rooms. Rooms named on stdin are sent to.
const readline = require("node:readline");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");

// The load client answers no pings of the engine: none comes within a run.
const io = new Server(Number(process.env.PORT), { transports: ["websocket"], pingInterval: 3_600_000 });
io.use((socket, next) => {
  try {
    socket.data.claims = jwt.verify(socket.handshake.query.token, process.env.JWT_SECRET);
    next();
  } catch {
    next(new Error("Unauthorized"));
  }
});
io.on("connection", (socket) => {
  socket.on("ping", () => socket.emit("pong", { timestamp: Date.now() }));
  socket.on("chat:join_room", ({ roomId }) => {
    socket.join(`chat_room_${roomId}`);
    socket.emit("chat:joined_room", { roomId, success: true });
  });
});
readline.createInterface({ input: process.stdin }).on("line", (room) => {
  io.to(room).emit("update", { room });
  process.stdout.write("sent\n");
});
