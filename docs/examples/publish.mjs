// Sends an event from a Node backend: puts one job on the stage's fan-out queue.
//
//   WEBSOCKET_FANOUT_QUEUE_URL=https://sqs... node docs/examples/publish.mjs u1 notice '{"text":"Hello"}'
//
// The form of a job stands in docs/protocol.md and roomcast/job.schema.json.
import { randomUUID } from "node:crypto";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const [user, event, data] = process.argv.slice(2);
const job = {
  version: 1,
  to: { user }, // or { room: "chat_room_42" }, or { all: true }
  event,
  data: JSON.parse(data),
  id: randomUUID(), // once a send: whoever repeats it repeats the id, and receivers drop what they have seen
};

const sqs = new SQSClient({}); // region and credentials as the AWS SDK finds them
await sqs.send(new SendMessageCommand({
  QueueUrl: process.env.WEBSOCKET_FANOUT_QUEUE_URL,
  MessageBody: JSON.stringify(job),
}));
console.log(job.id);
