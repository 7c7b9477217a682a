// An origin on Node.js, as lenient as its parser can be: writes a line of JSON for each request.
const http = require("node:http");
const fs = require("node:fs");

const server = http.createServer({ insecureHTTPParser: true, maxHeaderSize: 1 << 20 });

function serve(request, response) {
  const pieces = [];
  request.on("error", () => {});
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const fields = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      fields.push([request.rawHeaders[i], request.rawHeaders[i + 1]]);
    }
    const record = {
      connection: request.socket.remotePort,
      method: request.method,
      target: request.url,
      fields,
      body: Buffer.concat(pieces).toString("base64"),
    };
    fs.writeSync(1, JSON.stringify(record) + "\n");
    const answer = `${request.method} ${request.url}`;
    response.writeHead(200, { "X-Echo": answer, "Content-Length": Buffer.byteLength(answer) });
    response.end(request.method === "HEAD" ? undefined : answer);
  });
}

server.on("request", serve);
server.on("checkContinue", (request, response) => {
  response.writeContinue();
  serve(request, response);
});
server.on("checkExpectation", serve);
server.on("upgrade", (request, socket) => {
  fs.writeSync(1, JSON.stringify({ connection: 0, method: "UPGRADE", target: request.url, fields: [], body: "" }) + "\n");
  socket.destroy();
});
server.keepAliveTimeout = 60000;
server.headersTimeout = 60000;
server.listen(Number(process.argv[2]), "127.0.0.1");
