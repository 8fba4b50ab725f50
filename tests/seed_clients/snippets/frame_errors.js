client.onError((error) => {
  console.error(`Frame ${error.frame_id} failed: ${error.message}`);
  
  if (error.error_code === "INVALID_IMAGE") {
    // Image was bad, don't retry
    console.log("Skipping invalid image");
  } else if (error.error_code === "PLUGIN_ERROR") {
    // Plugin failed, could retry with different options
    console.log("Retrying with different options");
  }
});
