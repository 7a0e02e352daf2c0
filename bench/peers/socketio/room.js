// A room with numbered messages, with connection state recovery or without. Messages come on stdin.
const readline = require("node:readline");
const { Server } = require("socket.io");

const recovery = { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true };
const io = new Server(Number(process.env.PORT), {
  transports: ["websocket"],
  ...(process.env.RECOVERY && { connectionStateRecovery: recovery }),
});
io.on("connection", (socket) => {
  socket.on("chat:join_room", ({ roomId }) => {
    socket.join(`chat_room_${roomId}`);
    socket.emit("chat:joined_room", { roomId, success: true });
  });
});
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { room, data } = JSON.parse(line);
  io.to(room).emit("tick", data);
});
