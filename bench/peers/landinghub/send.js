// The backend's side: for each room named on a line of stdin, scan the connections and post to the members.
const readline = require("node:readline");
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, paginateScan } = require("@aws-sdk/lib-dynamodb");
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");

const client = new DynamoDBClient({ endpoint: process.env.DYNAMODB_ENDPOINT, region: "us-east-1" });
const dynamodb = DynamoDBDocumentClient.from(client);
const api = new ApiGatewayManagementApiClient({ endpoint: process.env.CALLBACK_URL, region: "us-east-1" });

async function sendToRoom(room) {
  const Data = JSON.stringify({ event: "update", data: { room }, timestamp: new Date().toISOString() });
  const pages = paginateScan(
    { client: dynamodb },
    {
      TableName: process.env.WEBSOCKET_CONNECTIONS_TABLE,
      FilterExpression: "contains(rooms, :room)",
      ExpressionAttributeValues: { ":room": room },
    },
  );
  const members = [];
  for await (const page of pages) members.push(...page.Items);
  await Promise.all(
    members.map(({ connectionId: ConnectionId }) => api.send(new PostToConnectionCommand({ ConnectionId, Data }))),
  );
  return members.length;
}

readline.createInterface({ input: process.stdin }).on("line", async (room) => {
  try {
    process.stdout.write(`sent ${await sendToRoom(room)}\n`);
  } catch (error) {
    process.stdout.write(`failed ${error.name}: ${error.message}\n`.replaceAll("\n", " ") + "\n");
  }
});
