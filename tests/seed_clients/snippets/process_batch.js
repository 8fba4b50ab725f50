async function processBatch(imageFiles) {
  const results = {};
  
  // Send all frames
  for (const file of imageFiles) {
    const bytes = await file.arrayBuffer();
    const frameId = await client.sendFrame(bytes, "ocr");
    results[frameId] = { file: file.name, status: "pending" };
  }
  
  // Collect results
  client.onFrameResult((result) => {
    results[result.frame_id].status = "done";
    results[result.frame_id].result = result.result;
  });
  
  // Wait for all
  while (Object.values(results).some(r => r.status === "pending")) {
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  
  return results;
}
